#!/bin/sh
# Install the peers of tests/ros_peers: programs of ROS by other authors, on Debian 12.
#
#   sh tests/ros_peers/install.sh FOLDER VENV
#
# apt: ROS 1 (rosmaster, rospy, rostopic, rosbag and messages), Fast DDS and its code generator,
#      Node.js and npm if they are missing
# npm: @foxglove/ros2, into FOLDER/npm
# FOLDER/venv: Python of VENV that also finds Debian's rospy
# FOLDER/fastdds: the compiled peer of Fast DDS
set -eu

folder=$1
venv=$2
own=$(dirname "$0")
mkdir -p "$folder"

packages="python3-rospy python3-rosbag python3-rostopic python3-rosmaster python3-std-msgs
  python3-sensor-msgs python3-nav-msgs python3-diagnostic-msgs python3-visualization-msgs
  python3-tf2-msgs libfastrtps-dev fastddsgen iproute2 g++"
command -v npm > /dev/null || packages="$packages nodejs npm"
missing=""
for package in $packages; do
  dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2> /dev/null \
    | grep --quiet '^installed$' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  as_root=""
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root apt-get update
  # shellcheck disable=SC2086
  $as_root apt-get install --yes --no-install-recommends $missing || {
    echo "apt must have$missing, as Debian 12 has; got an error, see above" >&2
    exit 1
  }
fi

# tslib is missing among the package's own needs, and avl 1.6 breaks its import.
[ -d "$folder/npm/node_modules/@foxglove/ros2" ] || npm install --no-audit --no-fund \
  --prefix "$folder/npm" @foxglove/ros2@1.0.8 tslib@2 avl@1.5.3

# Packages of VENV first: Debian has older ones of the same names.
if [ ! "$folder/venv/.made" -nt "$venv/pyvenv.cfg" ]; then
  "$venv/bin/python" -m venv --clear --without-pip "$folder/venv"
  find_packages='import sysconfig; print(sysconfig.get_path("purelib"))'
  first=$("$venv/bin/python" -c "$find_packages")
  {
    echo "import site; site.addsitedir('$first')"
    echo /usr/lib/python3/dist-packages
  } > "$("$folder/venv/bin/python" -c "$find_packages")/rospy.pth"
  "$folder/venv/bin/python" -c "import rospy, bevstack"
  touch "$folder/venv/.made"
fi

if [ ! -e "$folder/fastdds/peer" ] || [ "$own/messages.idl" -nt "$folder/fastdds/peer" ] ||
  [ "$own/fast_dds_peer.cpp" -nt "$folder/fastdds/peer" ]; then
  mkdir -p "$folder/fastdds"
  # -typeros2: names of types as ROS 2 has them; -cs: "pose" and "Pose" are two names.
  fastddsgen -replace -cs -typeros2 -d "$folder/fastdds" "$own/messages.idl"
  g++ -std=c++17 -O1 -I "$folder/fastdds" -o "$folder/fastdds/peer" "$own/fast_dds_peer.cpp" \
    "$folder/fastdds/messages.cxx" "$folder/fastdds/messagesPubSubTypes.cxx" -lfastrtps -lfastcdr
fi
