// A peer of the node on @foxglove/ros2: it prints what it receives.
//
//   NODE_PATH=FOLDER/node_modules node foxglove_listener.js DOMAIN DEFINITIONS
//
// DEFINITIONS is a JSON file of topic -> [type, text of its definition].
const fs = require("fs");
const { parse } = require("@foxglove/rosmsg");
const { MessageReader } = require("@foxglove/rosmsg2-serialization");
const { Participant, Durability, HistoryKind, Reliability } = require("@foxglove/rtps");
const { UdpSocketNode } = require("@foxglove/rtps/nodejs");

function line(topic, message) {
  const { sec, nanosec, nsec } = message.header.stamp;
  const list = message.detections ?? message.objects ?? message.status;
  const xs = (message.detections ?? []).map((found) => found.bbox.center.position.x);
  return [topic, `${sec}.${nanosec ?? nsec}`, list.length, ...xs].join(" ");
}

async function main() {
  const wanted = JSON.parse(fs.readFileSync(process.argv[3], "utf8"));
  const participant = new Participant({
    name: "listener",
    addresses: ["127.0.0.1"],
    domainId: Number(process.argv[2]),
    udpSocketCreate: UdpSocketNode.Create,
  });
  const readers = new Map();
  participant.on("error", (error) => console.error(error));
  participant.on("discoveredPublication", (found) => {
    if (readers.has(found.topicName)) console.log(`found ${found.topicName.slice(2)}`);
  });
  participant.on("userData", ({ subscription, serializedData }) => {
    const reader = readers.get(subscription.topicName);
    console.log(line(subscription.topicName.slice(2), reader.readMessage(serializedData)));
  });
  await participant.start();
  for (const [topic, [type, text]] of Object.entries(wanted)) {
    readers.set(`rt${topic}`, new MessageReader(parse(text, { ros2: true })));
    participant.subscribe({
      topicName: `rt${topic}`,
      typeName: type.replace("/msg/", "::msg::dds_::") + "_",
      durability: Durability.Volatile,
      reliability: {
        kind: Reliability.Reliable,
        maxBlockingTime: { sec: 0x7fffffff, nsec: 0xffffffff },
      },
      history: { kind: HistoryKind.KeepLast, depth: 10 },
    });
  }
  console.log("ready");
  process.on("SIGINT", () => process.exit(0));
}

main();
