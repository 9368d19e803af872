// A peer of the node on Fast DDS: it sends the images of two cameras, and receives the results.
//
//   peer DOMAIN NUMBER WIDTH HEIGHT JPEG...
//
// It sends NUMBER windows, each after the result of the one before, and prints a line for every
// message that it receives and for every window that it sends. A window without a result ends it.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>


#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/Topic.hpp>

#include "messagesPubSubTypes.h"

using namespace eprosima::fastdds::dds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds kLongest(100);  // shared processors may take long

struct Quality {
  int depth;
  bool reliable;
  bool latched;
};

class Node {
 public:
  explicit Node(int domain) {
    participant_ = DomainParticipantFactory::get_instance()->create_participant(
        domain, PARTICIPANT_QOS_DEFAULT);
    if (participant_ == nullptr) throw std::runtime_error("no participant");
    publisher_ = participant_->create_publisher(PUBLISHER_QOS_DEFAULT);
    subscriber_ = participant_->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
  }

  ~Node() {
    participant_->delete_contained_entities();
    DomainParticipantFactory::get_instance()->delete_participant(participant_);
  }

  template <typename Type>
  DataWriter* writer(const std::string& topic, const Quality& quality) {
    DataWriterQos qos = DATAWRITER_QOS_DEFAULT;
    set(qos, quality);
    DataWriter* made = publisher_->create_datawriter(topic_of<Type>(topic), qos);
    if (made == nullptr) throw std::runtime_error("no writer of " + topic);
    writers_.push_back(made);
    return made;
  }

  template <typename Type>
  DataReader* reader(const std::string& topic, const Quality& quality) {
    DataReaderQos qos = DATAREADER_QOS_DEFAULT;
    set(qos, quality);
    DataReader* made = subscriber_->create_datareader(topic_of<Type>(topic), qos);
    if (made == nullptr) throw std::runtime_error("no reader of " + topic);
    readers_.push_back(made);
    return made;
  }

  bool all_matched() const {
    for (DataWriter* writer : writers_) {
      PublicationMatchedStatus status;
      writer->get_publication_matched_status(status);
      if (status.current_count == 0) return false;
    }
    for (DataReader* reader : readers_) {
      SubscriptionMatchedStatus status;
      reader->get_subscription_matched_status(status);
      if (status.current_count == 0) return false;
    }
    return true;
  }

 private:
  template <typename Type>
  Topic* topic_of(const std::string& name) {
    TypeSupport type(new Type());
    type.register_type(participant_);
    return participant_->create_topic("rt" + name, type.get_type_name(), TOPIC_QOS_DEFAULT);
  }

  template <typename Qos>
  static void set(Qos& qos, const Quality& quality) {
    qos.reliability().kind =
        quality.reliable ? RELIABLE_RELIABILITY_QOS : BEST_EFFORT_RELIABILITY_QOS;
    qos.durability().kind =
        quality.latched ? TRANSIENT_LOCAL_DURABILITY_QOS : VOLATILE_DURABILITY_QOS;
    qos.history().kind = KEEP_LAST_HISTORY_QOS;
    qos.history().depth = quality.depth;
    qos.endpoint().history_memory_policy =
        eprosima::fastrtps::rtps::PREALLOCATED_WITH_REALLOC_MEMORY_MODE;
  }

  DomainParticipant* participant_;
  Publisher* publisher_;
  Subscriber* subscriber_;
  std::vector<DataWriter*> writers_;
  std::vector<DataReader*> readers_;
};

std_msgs::msg::Header header_at(std::int64_t time_us, const std::string& frame) {
  std_msgs::msg::Header header;
  header.stamp().sec(static_cast<std::int32_t>(time_us / 1000000));
  header.stamp().nanosec(static_cast<std::uint32_t>(time_us % 1000000 * 1000));
  header.frame_id(frame);
  return header;
}

std::string text(const std_msgs::msg::Header& header) {
  return std::to_string(header.stamp().sec()) + "." + std::to_string(header.stamp().nanosec());
}

std::int64_t now_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

struct Camera {
  std::string frame;
  DataWriter* images;
  DataWriter* infos;
};

sensor_msgs::msg::CameraInfo info_at(std::int64_t time_us, const std::string& frame, int width,
                                     int height) {
  sensor_msgs::msg::CameraInfo info;
  info.header(header_at(time_us, frame));
  info.width(width);
  info.height(height);
  info.distortion_model("plumb_bob");
  info.d(std::vector<double>(5, 0.0));
  info.k({30.0, 0.0, width / 2.0, 0.0, 30.0, height / 2.0, 0.0, 0.0, 1.0});
  info.r({1, 0, 0, 0, 1, 0, 0, 0, 1});
  info.p({30.0, 0.0, width / 2.0, 0.0, 0.0, 30.0, height / 2.0, 0.0, 0.0, 0.0, 1.0, 0.0});
  return info;
}

// Optical axes (x right, y down, z forward) of a camera that looks forward, or back.
tf2_msgs::msg::TFMessage places(std::int64_t time_us, const std::vector<Camera>& cameras) {
  tf2_msgs::msg::TFMessage message;
  bool forward = true;
  for (const Camera& camera : cameras) {
    geometry_msgs::msg::TransformStamped stamped;
    stamped.header(header_at(time_us, "base_link"));
    stamped.child_frame_id(camera.frame);
    stamped.transform().translation().x(forward ? 1.2 : -1.2);
    stamped.transform().translation().z(1.6);
    stamped.transform().rotation().x(forward ? -0.5 : 0.5);
    stamped.transform().rotation().y(0.5);
    stamped.transform().rotation().z(forward ? -0.5 : -0.5);
    stamped.transform().rotation().w(forward ? 0.5 : -0.5);
    message.transforms().push_back(stamped);
    forward = false;
  }
  return message;
}

nav_msgs::msg::Odometry odometry_at(std::int64_t time_us) {
  nav_msgs::msg::Odometry message;
  message.header(header_at(time_us, "odom"));
  message.child_frame_id("base_link");
  message.pose().pose().orientation().w(1.0);
  message.pose().pose().position().x(5e-6 * static_cast<double>(time_us % 1000000000));
  return message;
}

template <typename Message, typename Show>
void take(DataReader* reader, Show show) {
  Message message;
  SampleInfo info;
  while (reader->take_next_sample(&message, &info) == ReturnCode_t::RETCODE_OK) {
    if (info.valid_data) show(message);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  const int number = std::atoi(argv[2]), width = std::atoi(argv[3]), height = std::atoi(argv[4]);
  std::vector<std::vector<std::uint8_t>> jpegs;
  for (int index = 5; index < argc; ++index) {
    std::ifstream file(argv[index], std::ios::binary);
    jpegs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::size_t pictures = 0;  // a camera that repeats its last one counts as frozen
  Node node(std::atoi(argv[1]));
  std::vector<Camera> cameras;
  for (const std::string name : {"CAM_FRONT", "CAM_BACK"}) {
    using sensor_msgs::msg::CameraInfoPubSubType;
    using sensor_msgs::msg::CompressedImagePubSubType;
    cameras.push_back({name + "_optical_frame",
                       node.writer<CompressedImagePubSubType>(
                           "/" + name + "/image_raw/compressed", {5, false, false}),
                       node.writer<CameraInfoPubSubType>("/" + name + "/camera_info",
                                                         {5, false, false})});
  }
  DataWriter* tf = node.writer<tf2_msgs::msg::TFMessagePubSubType>("/tf_static", {1, true, true});
  DataWriter* odom = node.writer<nav_msgs::msg::OdometryPubSubType>("/odom", {50, true, false});
  DataReader* detections = node.reader<vision_msgs::msg::Detection3DArrayPubSubType>(
      "/bevstack/detections", {10, true, false});
  DataReader* objects = node.reader<autoware_perception_msgs::msg::DetectedObjectsPubSubType>(
      "/bevstack/objects", {10, true, false});
  DataReader* diagnostics = node.reader<diagnostic_msgs::msg::DiagnosticArrayPubSubType>(
      "/diagnostics", {10, true, false});

  const auto give_up = Clock::now() + kLongest;
  while (!node.all_matched()) {
    if (Clock::now() > give_up) {
      std::cerr << "no node was found\n";
      return 1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  auto placed = places(now_us(), cameras);
  tf->write(&placed);

  std::string waited;  // stamp of the window whose results are awaited
  int received = 0;
  const auto receive = [&] {
    take<vision_msgs::msg::Detection3DArray>(detections, [&](const auto& message) {
      std::cout << "detections " << text(message.header()) << " " << message.detections().size();
      for (const auto& found : message.detections()) {
        std::cout << " " << found.bbox().center().position().x();
      }
      std::cout << "\n";
      received += text(message.header()) == waited;
    });
    take<autoware_perception_msgs::msg::DetectedObjects>(objects, [&](const auto& message) {
      std::cout << "objects " << text(message.header()) << " " << message.objects().size();
      for (const auto& found : message.objects()) {
        std::cout << " " << found.kinematics().pose_with_covariance().pose().position().x();
      }
      std::cout << "\n";
      received += text(message.header()) == waited;
    });
    take<diagnostic_msgs::msg::DiagnosticArray>(diagnostics, [&](const auto& message) {
      for (const auto& status : message.status()) {
        std::cout << "diagnostics " << text(message.header()) << " " << int(status.level()) << " "
                  << status.name() << " " << status.message() << "\n";
      }
    });
    std::cout << std::flush;
  };
  const auto send_infos = [&](std::int64_t time_us) {
    for (const Camera& camera : cameras) {
      auto info = info_at(time_us, camera.frame, width, height);
      camera.infos->write(&info);
    }
  };
  const auto send_window = [&](const std::string& kind) {
    const std::int64_t time_us = now_us();
    for (const std::int64_t around : {-20000, 0, 20000}) {
      auto pose = odometry_at(time_us + around);
      odom->write(&pose);
    }
    send_infos(time_us);
    for (const Camera& camera : cameras) {
      sensor_msgs::msg::CompressedImage image;
      image.header(header_at(time_us, camera.frame));
      image.format("rgb8; jpeg compressed bgr8");
      image.data(jpegs[pictures++ % jpegs.size()]);
      camera.images->write(&image);
    }
    waited = text(header_at(time_us, ""));
    received = 0;
    std::cout << kind << " " << waited << "\n";
  };
  const auto receive_for = [&](std::chrono::seconds longest) {
    const auto end = Clock::now() + longest;
    while (received < 2 && Clock::now() < end) {
      receive();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return received >= 2;
  };
  // Places of cameras reach a late reader with a delay of seconds; until then no frame is complete.
  while (Clock::now() < give_up) {
    send_window("first");
    if (receive_for(std::chrono::seconds(10))) break;
  }
  for (int index = 0; index < number; ++index) {
    send_window("sent");
    if (!receive_for(kLongest)) {
      std::cerr << "no result of window " << index << "\n";
      return 1;
    }
  }
}
