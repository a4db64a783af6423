"""What differs between the versions of slurmrestd: everything of it is here.

One Slurm serves three or four versions side by side. A version has the same fields on every Slurm that serves it. 38
and 40 to 45 were met on real clusters; 39 is known from the source.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from hpcjobs.errors import ConfigError

OLDEST, NEWEST = 38, 45

KNOWN = range(NEWEST, OLDEST - 1, -1)
"""The numbers that are understood, newest first."""

TOO_OLD = (37, 36)
"""Those that Slurm 22.05 serves beside 38; they do not tell what is wrong in a way that can be read."""

_EVERYWHERE = """
account account_gather_frequency argv array batch_features begin_time burst_buffer cluster_constraint comment
constraints container core_specification cores_per_socket cpu_binding cpu_frequency cpus_per_task
current_working_directory deadline delay_boot dependency distribution environment hold licenses mail_type
mail_user mcs_label memory_binding memory_per_cpu memory_per_node minimum_cpus_per_node minimum_nodes name nice
nodes open_mode partition prefer priority qos requeue reservation sockets_per_node standard_error standard_input
standard_output tasks tasks_per_core tasks_per_node tasks_per_socket thread_specification threads_per_core
time_limit time_minimum wait_all_nodes wckey
"""

_FIELDS = (
    (38, 45, _EVERYWHERE),
    (38, 38, "cpu_binding_hint cpus_per_gpu get_user_environment gpu_binding gpu_frequency gpus gpus_per_node"),
    (38, 38, "gpus_per_socket gpus_per_task gres gres_flags kill_on_invalid_dependency memory_per_gpu no_kill signal"),
    (38, 38, "spread_job"),
    (38, 41, "exclusive oversubscribe"),
    (39, 44, "power_flags"),
    (39, 45, "admin_comment allocation_node_list allocation_node_port clusters container_id contiguous"),
    (39, 45, "cpu_binding_flags cpus_per_tres crontab distribution_plane_size end_time excluded_nodes extra flags"),
    (39, 45, "group_id hetjob_group immediate job_id kill_on_node_fail kill_warning_delay kill_warning_flags"),
    (39, 45, "kill_warning_signal maximum_cpus maximum_nodes memory_binding_type memory_per_tres"),
    (39, 45, "minimum_boards_per_node minimum_cpus minimum_sockets_per_board network ntasks_per_tres overcommit"),
    (39, 45, "profile reboot required_nodes required_switches reserve_ports rlimits script selinux_context shared"),
    (39, 45, "site_factor spank_environment tasks_per_board temporary_disk_per_node tres_bind tres_freq tres_per_job"),
    (39, 45, "tres_per_node tres_per_socket tres_per_task user_id wait_for_switch x11 x11_magic_cookie"),
    (39, 45, "x11_target_host x11_target_port"),
    (41, 41, "resv_mpi_ports"),
    (41, 45, "segment_size"),
    (42, 45, "oom_kill_step"),
    (44, 45, "step_id"),
    (45, 45, "container_type memory_update_delay memory_update_margin"),
)
"""The fields of a job that can be submitted: since when, until when."""

_TRES = {
    "gpus": "tres_per_job",
    "gpus_per_node": "tres_per_node",
    "gpus_per_socket": "tres_per_socket",
    "gpus_per_task": "tres_per_task",
    "gres": "tres_per_node",
}
"""What the oldest version and ``sbatch`` call otherwise than all that came after."""


@dataclasses.dataclass(frozen=True)
class Api:
    """One version of slurmrestd.

    Attributes:
        number: The last part of its name.

    Example:
        >>> str(Api(41)), Api(38).environment({"PATH": "/bin"}), Api(41).environment({"PATH": "/bin"})
        ('v0.0.41', {'PATH': '/bin'}, ['PATH=/bin'])
    """

    number: int

    def __str__(self) -> str:
        return f"v0.0.{self.number}"

    @property
    def fields(self) -> frozenset[str]:
        """The fields that a job which is submitted may have."""
        return frozenset(
            name for since, until, names in _FIELDS if since <= self.number <= until for name in names.split()
        )

    @property
    def state_of_many(self) -> bool:
        """Whether the states of many jobs can be asked for in one request."""
        return self.number >= 40

    @property
    def cancels_many(self) -> bool:
        """Whether many jobs can be cancelled in one request."""
        return self.number >= 40

    @property
    def requeues(self) -> bool:
        """Whether a job can be run again."""
        return self.number >= 45

    @property
    def renames(self) -> bool:
        """Whether a job's name can be changed; where not, the request is answered with 200 all the same."""
        return self.number >= 39

    @property
    def answers_for_a_dead_token(self) -> frozenset[int]:
        """The error numbers that may mean a token that is not good, and anything else as well.

        Later ones say 1007 for it, which means nothing else.
        """
        return frozenset({-1, 5005}) if self.number <= 38 else frozenset()

    @property
    def locks_up(self) -> bool:
        """Whether the controller hangs for good when someone cancels another's job (where there is no slurmdbd)."""
        return self.number >= 40

    def environment(self, variables: Mapping[str, str]) -> Any:
        """The environment of a job."""
        if self.number <= 38:
            return dict(variables)
        return [f"{name}={value}" for name, value in variables.items()]

    def amount(self, number: int) -> Any:
        """A number that may also be unset or without limit: minutes, megabytes."""
        return number if self.number <= 38 else {"set": True, "infinite": False, "number": number}

    def drop_when_a_dependency_fails(self) -> dict[str, Any]:
        """The fields that end a job whose dependency can never be met; without them it waits for ever."""
        return {"kill_on_invalid_dependency": True} if self.number <= 38 else {"flags": ["KILL_INVALID_DEPENDENCY"]}

    def native(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A user's options in the words of this version; what has another name there is renamed.

        Example:
            >>> Api(38).native({"gpus": 2, "nodes": 1}), Api(42).native({"gpus": 2, "nodes": 1})
            ({'gpus': '2', 'nodes': '1-1'}, {'tres_per_job': 'gres/gpu:2', 'nodes': '1-1'})
        """
        told: dict[str, Any] = {}
        for name, value in options.items():
            if name in _TRES and isinstance(value, int):
                value = str(value)  # noqa: PLW2901 - what is sent is text
            if name == "nodes" and isinstance(value, int):
                value = f"{value}-{value}"  # noqa: PLW2901 - the same
            if name in _TRES and self.number > 38 and isinstance(value, str):
                kind = "" if name == "gres" else "gpu:"
                told[_TRES[name]] = ",".join(f"gres/{kind}{part}" for part in value.split(","))
            else:
                told[name] = value
        return told

    def update_time(self, moment: int) -> str:
        """A moment, in seconds since 1970, as the list of jobs wants it."""
        return f"uts{moment}" if self.number in {40, 41} else str(moment)


def fixed(version: int | str | None) -> Api | None:
    """The version that a user wants; None to find one.

    Raises:
        ConfigError: That is none, or one that is not understood.

    Example:
        >>> str(fixed("v0.0.42")), str(fixed(40))
        ('v0.0.42', 'v0.0.40')
    """
    if version is None:
        return None
    match = re.fullmatch(r"(?:v?0\.0\.)?(\d{1,3})", str(version).strip())
    number = int(match[1]) if match and not isinstance(version, bool) else 0
    if number not in KNOWN:
        raise ConfigError(
            f"api is {version!r}; versions v0.0.{OLDEST} to v0.0.{NEWEST} of slurmrestd are understood: write "
            f'api="v0.0.{NEWEST}", or leave it out and the newest one that is served is taken'
        )
    return Api(number)
