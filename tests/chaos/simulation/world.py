"""A world in one thread: its clock, its processes, and the points at which a process may die, freeze or be overtaken.

Every process is a greenlet with an event loop of its own. Only one runs at a time, and who is next, who dies and how
long anything takes is drawn from one seed: the same seed gives the same history, to the last commit.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from greenlet import greenlet

EPOCH = 1_900_000_000.0
FOREVER = float("inf")
# The lengths of a freeze, in seconds: some shorter than a deadline, some longer than any lease.
FREEZES = (1.0, 4.0, 20.0, 45.0, 130.0, 400.0, 900.0)
# What the product does not stand as yet, and the world spares it; true once the part is there.
CLOCKS_MISBEHAVE = True  # wall clocks are set, and a process pauses after it has read the journal's
HOSTS_RESPELT = True  # Omnitron's address is written in another way, or is another's
STALE_TOKENS_VARY = True  # an old token is answered with 403, 419 or 440, as some frameworks do
PATHS_VARY = True  # a path is written in another notation
ORDERS_GROW = True  # an order gets a further plan after its transaction
LOST_AFTER = 300.0  # when Airflow gives a task up that does not show itself


class Killed(KeyboardInterrupt):
    """The process is dead. Of this kind because asyncio lets it through at once, as it would a real death."""


class Process:
    """One operating system process of the simulation: a task, Airflow itself, a person at the command line."""

    def __init__(self, name: str, home: Any, mortal: bool) -> None:
        self.name, self.home, self.mortal = name, home, mortal
        self.greenlet: Any = None
        self.wake = 0.0
        self.dead = self.doomed = self.done = self.waits = False
        self.lost_at = FOREVER
        self.frozen_at = -FOREVER  # when it last woke up from a freeze
        self.frozen_seconds = 0.0
        self.began = 0.0
        self.began_after = 0  # so many entries of the trail: much may happen in one instant
        self.run: int | None = None  # the run that it is a task of
        self.again = False  # Airflow tries it again, or it was cleared
        self.value: Any = None
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return self.name


class World:
    """Clock, scheduler and fate. `calm` ends all faults: whoever is left goes on undisturbed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.calm = False
        self.kill_rate = self.freeze_rate = self.switch_rate = self.journal_down_rate = 0.0
        self.machine_rate = self.pause_rate = 0.0
        self.target: str | None = None
        self.target_after = 0
        self.kills_left = 0
        self.freezes_left = 0
        self.hits: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.trail: list[tuple[float, str, str]] = []
        self.current: Process | None = None
        self.processes: list[Process] = []
        self.risen: list[Process] = []  # given up for lost, and awake again
        self.switches = 0
        self._hub: Any = None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = 0

    def time(self) -> float:
        """Seconds since the epoch, by the clock of the machine on which the current process runs."""
        skew = getattr(getattr(self.current, "home", None), "skew", 0.0)
        return EPOCH + self.now + float(skew)

    def true_time(self) -> float:
        """Seconds since the epoch, by the clock that the journal and Omnitron keep."""
        return EPOCH + self.now

    def monotonic(self) -> float:
        return self.now

    def chance(self, rate: float) -> bool:
        return not self.calm and rate > 0 and self.random.random() < rate

    def note(self, what: str) -> None:
        """A line of the history: part of its digest."""
        self.trail.append((self.now, self.current.name if self.current else "-", what))

    def digest(self) -> str:
        return hashlib.sha256(repr(self.trail).encode()).hexdigest()[:16]

    # Processes

    def spawn(self, name: str, body: Callable[[], Any], home: Any = None, mortal: bool = False) -> Process:
        """Start a process; it runs when the scheduler picks it."""
        process = Process(name, home, mortal)
        process.wake = process.began = self.now
        process.began_after = len(self.trail)

        def run() -> None:
            try:
                process.value = body()
            except Killed:
                process.dead = True
            except Exception as error:
                process.error = error
            process.done = True

        process.greenlet = greenlet(run)
        self.processes.append(process)
        return process

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen after so many seconds, whatever becomes of the process that began it."""
        self._counter += 1
        heapq.heappush(self._timers, (self.now + seconds, self._counter, act))

    def run(self, main: Process) -> None:
        """Go on until `main` has ended."""
        self._hub = greenlet.getcurrent()
        while not main.done:
            self.switches += 1
            if self.switches > 200_000:
                raise RuntimeError("the history does not end")
            self._let_happen()
            ready = [process for process in self.processes if process.wake <= self.now]
            if not ready:
                self._advance()
                continue
            chosen = ready[0] if len(ready) == 1 else self.random.choice(ready)
            self.current = chosen
            chosen.greenlet.parent = self._hub
            chosen.greenlet.switch()
            self.current = None
            if chosen.done:
                self.processes.remove(chosen)
                for other in self.processes:
                    if other.waits:
                        other.wake = self.now  # whoever waits for others looks again

    def _advance(self) -> None:
        earliest = min((process.wake for process in self.processes), default=FOREVER)
        if self._timers and self._timers[0][0] <= earliest:
            self.now = max(
                self.now, self._timers[0][0]
            )  # what happens then, the next round of `run` lets happen
            return
        if earliest == FOREVER:
            raise RuntimeError(f"nobody can go on: {self.processes}")
        self.now = max(self.now, earliest)

    def lag(self, seconds: float) -> None:
        """Time passes while nobody else gets a turn: a pause inside a transaction."""
        self.now += seconds
        process, self.current = self.current, None
        self._let_happen()
        self.current = process

    def _let_happen(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()

    def pause(self, until: float) -> None:
        """Let others run; the current process goes on at `until` or later."""
        process = self.current
        assert process is not None
        process.wake = until
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        self._hub.switch()
        asyncio._set_running_loop(loop)
        if process.doomed and not process.dead:
            process.dead = True
            raise Killed

    def sleep(self, seconds: float) -> None:
        self.pause(self.now + seconds)

    def wait(self, processes: Iterable[Process]) -> None:
        """Until all of them have ended, or are given up for lost."""
        pending = list(processes)
        while True:
            pending = [one for one in pending if not one.done and one.lost_at > self.now]
            if not pending:
                return
            assert self.current is not None
            self.current.waits = True
            self.pause(min(one.lost_at for one in pending))
            self.current.waits = False

    # Fate

    def breathe(self) -> None:
        """A place where others may overtake."""
        process = self.current
        if process is None:
            return
        if process.dead:
            raise Killed
        if self.chance(self.switch_rate):
            self.pause(self.now)

    def point(self, name: str, *, inside: bool = False) -> None:
        """A boundary at which the current process may die; and, outside a transaction, freeze or be overtaken."""
        process = self.current
        if process is None:
            return
        if process.dead:
            raise Killed
        self.passed[name] += 1
        self.trail.append((self.now, process.name, name))
        if self.calm or not process.mortal:
            return
        if self._dies(name):
            self._kill(process, name)
        if inside:
            return
        if self.freezes_left > 0 and self.chance(self.freeze_rate):
            self._freeze(process, name)
        elif self.chance(self.switch_rate):
            self.pause(self.now)

    def _dies(self, name: str) -> bool:
        if name == self.target and self.target_after >= 0:
            self.target_after -= 1
            return self.target_after < 0
        if self.kills_left > 0 and self.chance(self.kill_rate):
            self.kills_left -= 1
            return True
        return False

    def _kill(self, process: Process, name: str) -> None:
        self.hits[name] += 1
        process.dead = True
        self.note(f"killed: {name}")
        if self.chance(self.machine_rate):
            self.note("with all its machine")
            for other in self.processes:
                if other.home is process.home and other.mortal:
                    other.doomed = True
                    other.wake = self.now
        raise Killed

    def _freeze(self, process: Process, name: str) -> None:
        self.freezes_left -= 1
        seconds = self.random.choice(FREEZES)
        self.note(f"frozen for {seconds:.0f} s: {name}")
        if seconds > LOST_AFTER:
            process.lost_at = self.now + LOST_AFTER
        self.pause(self.now + seconds)
        process.frozen_at = self.now
        process.frozen_seconds += seconds
        if process.lost_at <= self.now:
            self.risen.append(process)
        self.note("awake again")

    # What stands in for asyncio.run

    def run_coroutine(self, main: Any, **_: Any) -> Any:
        """`asyncio.run` in the current process, under this world's clock."""
        return _Loop(self).run_main(main)


class _Selector:
    """Where the event loop waits: there is nothing to hear of but the clock."""

    def __init__(self, world: World) -> None:
        self.world = world

    def select(self, timeout: float | None) -> list[Any]:
        process = self.world.current
        if process is not None and process.dead:
            return []
        if timeout is None:
            raise RuntimeError("a coroutine waits for what nobody will do")
        if timeout > 0:
            self.world.pause(self.world.now + timeout)
        return []


class _Loop(asyncio.BaseEventLoop):
    """An event loop of one process. Its executor has one thread, which works between the loop's turns."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._selector = _Selector(world)
        self._jobs: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._world.now

    def _process_events(self, event_list: Any) -> None: ...

    def _write_to_self(self) -> None: ...

    def call_exception_handler(self, context: Any) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        self._jobs.append((future, lambda: func(*args)))
        self.call_soon(self._work)
        return future

    def _work(self) -> None:
        future, job = self._jobs.popleft()
        if future.cancelled():
            return
        try:
            value = job()
        except Exception as error:
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(value)

    def run_main(self, main: Any) -> Any:
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._run_once()
            self._end_the_rest()
            return task.result()
        except Killed:
            self._bury()
            raise
        finally:
            asyncio._set_running_loop(None)
            self._ready.clear()
            self._scheduled.clear()
            self._closed = True

    def _end_the_rest(self) -> None:
        rest = [task for task in asyncio.all_tasks(self) if not task.done()]
        for task in rest:
            task.cancel()
        while any(not task.done() for task in rest):
            self._run_once()

    def _bury(self) -> None:
        """Unwind what a dead process leaves behind. All that could have an effect refuses the dead."""
        for _ in range(20):
            rest = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not rest:
                return
            for task in rest:
                task.cancel()
            for _ in range(10):
                try:
                    if self._ready or self._scheduled:
                        self._run_once()
                except Killed:
                    continue
