"""The composition root: everything the doors need, put together once a process and when first asked for.

Building it costs no I/O and imports no SDK; clients come up lazily.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shared.errors import StorageError
from shared.finding.search import Reader, Search
from shared.finding.uses import Uses
from shared.ledger.deadletters import DeadLetters
from shared.ledger.idempotency import Idempotency
from shared.ledger.parts import Parts
from shared.ledger.submissions import Submissions
from shared.ledger.verdicts import Verdicts
from shared.ledger.view import paused_sentence, paused_shown
from shared.looking.capacity import Capacity
from shared.looking.find import Finder
from shared.looking.levels import Levels
from shared.looking.permits import Looks
from shared.looking.value import Values
from shared.publishing.answers import Answers
from shared.publishing.budget import Budget
from shared.publishing.commit import Committer
from shared.publishing.control import Control
from shared.publishing.deliver import Deliveries
from shared.publishing.known_bad import KnownBad
from shared.publishing.operations import Operations
from shared.publishing.order import Order
from shared.publishing.pause import Pauses
from shared.publishing.ports import Defender, Tell
from shared.publishing.presence import Presence
from shared.publishing.replay import Replays
from shared.publishing.retire import Retirer, win
from shared.publishing.retraction import Retractions
from shared.publishing.settle import Settler
from shared.publishing.submit import Submitting
from shared.publishing.suspects import Suspects
from shared.publishing.sweep import Sweeper
from shared.publishing.undo import Undoing
from shared.settings import Settings, load
from shared.storage.clock import Onward
from shared.storage.protocols import Blobs, Clock, Queue, Tables

if TYPE_CHECKING:
    from shared.health import Health


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The seams to the outside."""

    tables: Tables
    blobs: Blobs
    queue: Queue
    clock: Clock


class Publishing:
    """Ledger and publishing on given stores: the product, whatever is behind the seams."""

    def __init__(self, settings: Settings, stores: Stores, defender: Defender, tell: Tell) -> None:
        tables, clock = stores.tables, stores.clock
        meant = Onward(clock)
        rnd = random.Random()
        self.settings = settings
        self.stores = stores
        self.submissions = Submissions(tables)
        self.parts = Parts(tables, stores.blobs, stores.queue, clock)
        self.letters = DeadLetters(tables, stores.blobs, clock)
        self.imports = Budget(tables, clock, "import", settings.limit_import, paused_with="import")
        self.share = Budget(tables, clock, "suspect", settings.limit_suspect)
        self.lists = Budget(tables, clock, "list", settings.limit_list)
        self.looks = Budget(tables, clock, "look", settings.limit_look)
        self.deletes = Budget(tables, clock, "delete", settings.limit_delete, paused_with="import")
        self.batch_deletes = Budget(tables, clock, "batch_delete", settings.limit_batch_delete, paused_with="import")
        self.budgets = (self.imports, self.share, self.lists, self.looks, self.deletes, self.batch_deletes)
        writing = (self.imports, self.deletes, self.batch_deletes)
        self.pauses = Pauses(tables, clock, settings, self.parts, writing, tell)
        self.order = Order(tables, self.parts, clock)
        self.settler = Settler(settings, self.submissions, self.parts, self.letters, clock, tell, rnd)
        self.retirer = Retirer(self.order, defender, self.lists, self.deletes, self.batch_deletes, clock, tell)
        self.known_bad = KnownBad(tables, clock, settings.known_bad_for)
        self.control = Control(tables, self.order, clock)
        self.answers = Answers(self.order, self.retirer, self.settler, self.imports, self.control, clock, tell)
        self.committer = Committer(
            settings, clock, self.imports, self.order, defender, self.answers, self.settler, self.known_bad, tell
        )
        self.presence = Presence(tables, clock, lambda: self.committer.calls_made)
        self.suspects = Suspects(
            settings,
            clock,
            self.imports,
            self.share,
            self.order,
            defender,
            self.answers,
            self.settler,
            self.known_bad,
            self.control,
            tell,
        )
        self.retractions = Retractions(self.order, self.retirer, self.settler)
        self.deliveries = Deliveries(
            settings,
            clock,
            self.submissions,
            self.parts,
            self.letters,
            self.committer,
            self.suspects,
            self.retractions,
            self.settler,
            tell,
        )
        self.verdicts = Verdicts(stores.blobs)
        # No longer than what it names.
        keep = 86_400.0 * min(settings.keep_keys_days, settings.keep_outcomes_days)
        self.idempotency = Idempotency(tables, meant, keep=keep, lease=settings.key_resume_after)
        self.submitting = Submitting(
            settings, meant, self.submissions, self.parts, self.idempotency, self.verdicts, tell
        )
        self.replays = Replays(clock, self.submissions, self.letters, self.submitting, tell)
        self.undoing = Undoing(clock, self.submissions, self.parts, self.letters, self.order, self.submitting, tell)
        self.reader = reader = Reader(self.submissions)
        self.search = Search(tables, reader)
        self.uses = Uses(settings, tables, stores.blobs, self.parts, reader, clock)
        self.operations = Operations(
            clock,
            stores.queue,
            self.parts,
            self.letters,
            self.budgets,
            self.pauses,
            self.presence,
            self.search,
            tell,
        )
        self.sweeper = Sweeper(
            settings,
            clock,
            tables,
            stores.queue,
            self.parts,
            self.submissions,
            self.deliveries,
            self.budgets,
            self.known_bad,
            self.idempotency,
            self.verdicts,
            self.pauses,
            self.presence,
            tell,
        )


class Relay:
    """The app of one process, on Azure's services. Raises SettingsError when a setting is wrong."""

    def __init__(self) -> None:
        from shared.defender.client import DefenderClient
        from shared.identity.tokens import build_identity
        from shared.looking.adapter import PooledLister
        from shared.publishing.adapters import PooledDefender, Telemetry
        from shared.storage.azure import AzureBlobs, AzureQueue, AzureTables
        from shared.storage.clock import ServiceClock
        from shared.storage.connection import StorageConnection, import_sdks

        self.settings = load()
        self.connection = dataclasses.replace(
            StorageConnection.from_environment(os.environ),
            timeout=self.settings.storage_timeout,
            backoff=self.settings.storage_backoff,
        )
        self.pool = ThreadPoolExecutor(self.settings.pool_threads, "relay", import_sdks)
        clock = ServiceClock()
        self.identity = build_identity(self.settings)
        client = DefenderClient(self.identity.endpoints.api, self.identity.tokens, timeout=self.settings.call_timeout)
        self.defender = PooledDefender(client, self.identity.tokens, self.pool)
        stores = Stores(
            tables=AzureTables(self.connection, self.pool, clock),
            blobs=AzureBlobs(self.connection, self.pool),
            queue=AzureQueue(self.connection, self.pool),
            clock=clock,
        )
        self.publishing = publishing = Publishing(self.settings, stores, self.defender, Telemetry())
        lister = PooledLister(client, self.identity.tokens, self.defender)
        looks = Looks(lister, publishing.looks, publishing.lists, clock)
        self.finder = Finder(looks)
        self.values = Values(looks, stores.tables, publishing.reader, self.settings.value_max)
        self.capacity = Capacity(looks, self.settings.tenant_max, publishing.budgets)
        self.levels = Levels(clock, self.capacity, self.settings.tenant_max, self.identity.secrets, lister.run)

    async def health(self) -> Health:
        """Look at everything the app needs; see shared/health.py."""
        from shared.health import check_health, with_pause

        publishing = self.publishing

        async def queue() -> str:
            return f"about {await publishing.stores.queue.depth()} messages"

        async def tables() -> str:
            view = await publishing.imports.look()
            held = f"; calls are held: {view.hold_reason}" if view.hold_until > publishing.stores.clock.now() else ""
            return f"{view.number} import calls so far{held}"

        async def blobs() -> str:
            from shared.storage.connection import CONTAINERS

            await asyncio.gather(*(publishing.stores.blobs.get(container, "health") for container in CONTAINERS))
            return "readable"

        async def call() -> str:
            within = await win(publishing.lists, publishing.stores.clock, 5.0)
            await self.defender.probe(within=within)
            return "Defender answers, and takes the token"

        loop = asyncio.get_running_loop()
        found = await check_health(
            self.settings,
            run=lambda work: loop.run_in_executor(self.pool, work),
            tokens=self.identity.tokens,
            secrets=self.identity.secrets,
            queue=queue,
            tables=tables,
            blobs=blobs,
            call=call,
        )
        try:
            paused = await publishing.pauses.standing(fresh=True)
        except StorageError:
            return found  # the check of the tables says so
        return found if paused is None else with_pause(found, paused_shown(paused), paused_sentence(paused))


@functools.cache
def relay() -> Relay:
    """The process's own Relay."""
    return Relay()
