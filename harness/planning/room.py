"""What nodes have and what of it is taken: the driver and the simulation ask whether a job fits.

A share of a GPU lies on one card, so it is cards that are counted, and not their sum: two half
free cards are no room for a whole one. Ray places by itself; it finds room wherever this does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.planning.jobs import Resources

STEP = 1e-6  # shares that differ by less are equal


@dataclass(frozen=True)
class Offer:
    """What one node has."""

    cpus: float = math.inf
    gpus: int = 0
    memory_gb: float = math.inf
    jobs: float = math.inf  # at once

    def fits(self, resources: Resources) -> bool:
        """Whether the empty node could run such a job."""
        return (
            resources.cpus <= self.cpus
            and resources.gpus <= self.gpus
            and resources.memory_gb <= self.memory_gb + STEP
        )


def too_much(resources: Resources, have: str) -> str:
    """What to say of a job that no node could run."""
    return (
        f"a job asks for {resources.cpus} CPUs, {resources.gpus:g} GPUs and "
        f"{resources.memory_gb:g} GiB, and {have}; change resources.default or resources.<method> "
        "(resources.default.gpus=0 runs on the CPU), or add such a node"
    )


@dataclass
class _Node:
    """What is left of one."""

    cpus: float
    memory_gb: float
    jobs: float
    cards: list[float]  # free share of each
    held: dict[str, tuple[Resources, list[int]]] = field(default_factory=dict)  # with its cards

    def cards_for(self, resources: Resources) -> list[int] | None:
        """The cards that a job would get; None if it does not fit now."""
        if resources.cpus > self.cpus or self.jobs < 1:
            return None
        if resources.memory_gb > self.memory_gb + STEP:
            return None
        if resources.gpus == 0:
            return []
        if resources.gpus <= 1:  # the fullest card that has room
            room = [(free, i) for i, free in enumerate(self.cards) if free >= resources.gpus - STEP]
            return [min(room)[1]] if room else None
        whole = [i for i, free in enumerate(self.cards) if free >= 1 - STEP]
        return whole[: int(resources.gpus)] if len(whole) >= resources.gpus else None

    def change(self, resources: Resources, cards: Sequence[int], sign: int) -> None:
        self.cpus += sign * resources.cpus
        self.memory_gb += sign * resources.memory_gb
        self.jobs += sign
        for i in cards:
            self.cards[i] += sign * min(resources.gpus, 1.0)


class Room:
    """The nodes, and which job holds what of them."""

    def __init__(self, offers: Sequence[Offer]):
        self.offers: list[Offer] = []
        self.nodes: list[_Node] = []
        self.at: dict[str, _Node] = {}
        self.beyond: dict[str, Resources] = {}  # jobs that run though the nodes have changed
        self.update(offers)

    def update(self, offers: Sequence[Offer]) -> None:
        """The nodes are these now; jobs keep what they hold as far as it fits."""
        if list(offers) == self.offers:
            return
        held = {k: node.held[k][0] for k, node in self.at.items()} | self.beyond
        self.offers = list(offers)
        self.nodes = [_Node(o.cpus, o.memory_gb, o.jobs, [1.0] * int(o.gpus)) for o in offers]
        self.at, self.beyond = {}, {}
        for key, resources in held.items():
            if not self.take(key, resources):
                self.beyond[key] = resources

    def fits(self, resources: Resources) -> bool:
        return any(node.cards_for(resources) is not None for node in self.nodes)

    def take(self, key: str, resources: Resources) -> bool:
        """Hold room for a job, on the node where least of what it wants is left after it."""
        found = [
            (self._left(node, resources, cards), i, cards)
            for i, node in enumerate(self.nodes)
            if (cards := node.cards_for(resources)) is not None
        ]
        if not found:
            return False
        _, i, cards = min(found)
        node = self.nodes[i]
        node.change(resources, cards, -1)
        node.held[key] = resources, cards
        self.at[key] = node
        return True

    @staticmethod
    def _left(node: _Node, resources: Resources, cards: Sequence[int]) -> tuple[float, float]:
        """A share goes to the fullest card, a job without one where fewest cards are idle."""
        free = node.cards[cards[0]] if cards else sum(node.cards)
        return free, -node.cpus

    def leave(self, key: str) -> None:
        """Give back what a job holds, if anything."""
        self.beyond.pop(key, None)
        if (node := self.at.pop(key, None)) is not None:
            resources, cards = node.held.pop(key)
            node.change(resources, cards, 1)

    def memory_for(self, resources: Resources) -> float:
        """GiB of the largest node that has the CPUs and GPUs for a job; 0 if none has."""
        fitting = [o for o in self.offers if o.cpus >= resources.cpus and o.gpus >= resources.gpus]
        return max((offer.memory_gb for offer in fitting), default=0.0)
