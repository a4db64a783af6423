"""Slurm's words for why a job waits or ended, in ours: the service for Slurm and the server's executor share them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

MARK = "hpcjobs:"
"""How what is ours begins in the comment of a job: the client's notes, or the server's name for an attempt."""

ENDED: Mapping[str, str] = MappingProxyType(
    {
        "TIMEOUT": "it ran longer than its time limit",
        "OUT_OF_MEMORY": "it ran out of memory; ask for more with memory=",
        "NODE_FAIL": "a node that it ran on failed",
        "BOOT_FAIL": "its nodes could not be started",
        "DEADLINE": "it could not end before its deadline",
        "PREEMPTED": "it was preempted: the cluster gave its place to another job",
        "LAUNCH_FAILED": "it could not be started on its nodes",
        "RECONFIG_FAIL": "its nodes could not be set up",
        "REVOKED": "another cluster of the federation runs it",
    }
)
"""What the final words mean that are not said by an exit code."""

_WAITS = {
    "None": "Slurm has not looked at it yet",
    "Priority": "other jobs come first",
    "Resources": "no place is free that is large enough",
    "Dependency": "it waits for other jobs",
    "BeginTime": "it is not to start yet",
    "JobHeldUser": "it is held; scontrol release lets it go",
    "JobHeldAdmin": "it is held by an operator; ask them",
    "JobArrayTaskLimit": "as many of its array run as may",
    "Licenses": "no licence is free",
    "Reservation": "its reservation has not begun",
    "Cleaning": "it is being cleaned up before it runs again",
    "PartitionDown": "its partition takes no jobs to run now",
    "PartitionInactive": "its partition is switched off",
    "NodeDown": "a node that it needs is down",
}
_WAITS_BEGINNING = {
    "Nodes required for job are DOWN": "the nodes that it needs are down, drained or reserved",
    "ReqNodeNotAvail": "a node that it needs cannot be had now",
    "AssocGrp": "its account uses as much as it may together",
    "AssocMax": "it asks for more than its account gives to a job, or the account has as many jobs as it may",
    "QOSGrp": "its QOS uses as much as it may together",
    "QOSMax": "it asks for more than its QOS gives to a job, or its user has as many jobs in it as may be",
}
_MAY_NEVER_START = {
    "DependencyNeverSatisfied": "a job that it waits for did not end as it had to",
    "PartitionConfig": "it asks for more than its partition has",
    "PartitionNodeLimit": "it asks for more nodes than its partition gives to a job",
    "PartitionTimeLimit": "it asks for more time than its partition allows",
    "BadConstraints": "no node is as it asks",
    "InvalidAccount": "its account is not known",
    "InvalidQOS": "its QOS is not known",
    "AccountNotAllowed": "its account may not use its partition",
    "QOSNotAllowed": "its QOS may not be used there",
    "JobHoldMaxRequeue": "it failed to start too often, and is held",
    "launch failed requeued held": "it could not be started on its node and is held; scontrol release lets it go",
}


def why_waiting(word: str) -> str | None:
    """Why a job waits, in words; None for a word that is not known.

    Example:
        >>> why_waiting("PartitionConfig")
        'it asks for more than its partition has; it may never start'
        >>> why_waiting("QOSGrpGRES"), why_waiting("Hovering")
        ('its QOS uses as much as it may together', None)
    """
    plain = word.replace("_", " ") if word.startswith("launch") else word.partition(",")[0]
    if plain in _MAY_NEVER_START:
        return f"{_MAY_NEVER_START[plain]}; it may never start"
    if plain in _WAITS:
        return _WAITS[plain]
    return next((words for start, words in _WAITS_BEGINNING.items() if word.startswith(start)), None)
