"""A thread pool that maps a function over a stream of items and yields the results in order.

The pools of concurrent.futures refuse work once the interpreter begins to exit, when a background
commit may still have to be finished. These threads are daemons. They start at the first use, and
again in a forked child, which inherits none of them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from gradient.store.fork_lock import ForkLock

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 3
_END = object()


class ThreadPool:
    """A fixed number of threads. Several threads may call `map`, but not one of the pool."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or len(os.sched_getaffinity(0))
        """The number of threads; by default one per core that this process may use."""
        self._queue: SimpleQueue[_Task[Any, Any]] = SimpleQueue()
        self._process = -1
        self._lock = ForkLock()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
    ) -> Iterator[Result]:
        """Yield each item's result in the items' order; raises the first error and stops.

        A bounded number of items is taken ahead. When this ends, by an error or not, no thread uses
        an item any more: buffers that the items refer to may then be reused.
        """
        source = iter(items)
        first, second = next(source, _END), next(source, _END)
        if first is _END:
            return
        if second is _END:
            yield function(cast("Item", first))
            return
        tasks: deque[_Task[Item, Result]] = deque()
        try:
            for item in chain((cast("Item", first), cast("Item", second)), source):
                if len(tasks) >= self.count * _IN_FLIGHT_PER_WORKER:
                    yield tasks.popleft().wait()
                tasks.append(self._submit(function, item))
            while tasks:
                yield tasks.popleft().wait()
        finally:
            for task in tasks:
                task.cancelled = True
            for task in tasks:
                task.done.wait()

    def _submit(self, function: Callable[[Item], Result], item: Item) -> _Task[Item, Result]:
        if self._process != os.getpid():
            self._start()
        task = _Task(function, item)
        self._queue.put(task)
        return task

    def _start(self) -> None:
        with self._lock:
            if self._process == os.getpid():
                return
            self._queue = SimpleQueue()
            for number in range(self.count):
                threading.Thread(
                    target=_work, args=(self._queue,), name=f"gradient-{number}", daemon=True
                ).start()
            self._process = os.getpid()


class _Task(Generic[Item, Result]):
    __slots__ = ("_error", "_function", "_item", "_result", "cancelled", "done")

    def __init__(self, function: Callable[[Item], Result], item: Item) -> None:
        self._function = function
        self._item = item
        self._result: Result | None = None
        self._error: BaseException | None = None
        self.cancelled = False
        self.done = threading.Event()

    def run(self) -> None:
        try:
            if not self.cancelled:
                self._result = self._function(self._item)
        except BaseException as error:  # noqa: BLE001 - wait() hands it back
            self._error = error
        finally:
            self.done.set()

    def wait(self) -> Result:
        self.done.wait()
        if self._error is not None:
            raise self._error
        return cast("Result", self._result)


def _work(queue: SimpleQueue[_Task[Any, Any]]) -> None:
    while True:
        queue.get().run()
