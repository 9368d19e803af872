"""Launch file of ROS 2: the node on DDS, and RViz with ``rviz:=true``.

ros2 launch bevstack_launch.py weights:=tiny_cpu_t4 params:=node.yaml
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration

FOLDER = Path(__file__).resolve().parent
ARGUMENTS = (
    ("weights", "tiny_cpu_t4", "weights file, or name of packaged weights"),
    ("params", str(FOLDER / "node.yaml"), "file of parameters"),
    ("use_sim_time", "false", "take the time from /clock"),
    ("interface", "auto", "network interface; lo: this machine alone; auto: chosen by Cyclone DDS"),
    ("rviz", "false", "start RViz, too"),
)


def generate_launch_description() -> LaunchDescription:
    """Return the processes, as `ros2 launch` calls for them."""
    chosen = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    node = ["bevstack", "node", "--dds", "--weights", chosen["weights"]]
    node += ["--params", chosen["params"], "--set", ["use_sim_time=", chosen["use_sim_time"]]]
    node += ["--interface", chosen["interface"]]
    node += ["--domain", EnvironmentVariable("ROS_DOMAIN_ID", default_value="0")]
    rviz = ["rviz2", "-d", str(FOLDER / "bevstack.rviz")]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            ExecuteProcess(cmd=node, output="screen"),
            ExecuteProcess(cmd=rviz, output="screen", condition=IfCondition(chosen["rviz"])),
        ]
    )
