"""Places and requests per minute: nobody takes more than his, and every place comes back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.config import AutoscalingConfig, EngineConfig, LimitsConfig, ServeConfig
from deploy.limits import Limiter, Refusal, Ticket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limiter(places: int = 100, concurrency: int = 100, rpm: int = 6000) -> tuple[Limiter, Clock]:
    clock = Clock()
    return Limiter(places, concurrency, rpm, clock=clock), clock


def entered(result: Ticket | Refusal) -> Ticket:
    assert isinstance(result, Ticket), result
    return result


def refused(result: Ticket | Refusal) -> Refusal:
    assert isinstance(result, Refusal)
    return result


def test_a_key_has_so_many_places_and_others_have_theirs() -> None:
    doors, _ = limiter(concurrency=2)
    first, _second = entered(doors.enter("a")), entered(doors.enter("a"))
    assert refused(doors.enter("a")).code == "rate_limit_exceeded"
    entered(doors.enter("b"))
    first.release()
    entered(doors.enter("a"))
    refused(doors.enter("a"))


def test_the_queue_is_bounded_over_all_keys() -> None:
    doors, _ = limiter(places=3)
    tickets = [entered(doors.enter(f"key {i}")) for i in range(3)]
    refusal = refused(doors.enter("another"))
    assert refusal.code == "queue_full" and refusal.retry_after >= 1
    entered(doors.enter("another", queued=False))
    tickets[0].release()
    entered(doors.enter("another"))


def test_a_ticket_is_handed_back_once_however_often_it_is_released() -> None:
    doors, _ = limiter(places=2)
    with entered(doors.enter("a")) as ticket:
        ticket.release()
        with entered(doors.enter("a")):
            assert doors.queued == 1
    assert doors.queued == 0 and not doors.inside


def test_an_exception_hands_the_place_back() -> None:
    doors, _ = limiter()
    try:
        with entered(doors.enter("a")):
            raise KeyError
    except KeyError:
        pass
    assert doors.queued == 0 and not doors.inside


def test_requests_of_a_minute_come_back_evenly() -> None:
    doors, clock = limiter(rpm=60)
    for _ in range(60):
        entered(doors.enter("a")).release()
    assert refused(doors.enter("a")).retry_after == 1.0
    entered(doors.enter("b"))
    clock.now = 0.5
    assert abs(refused(doors.enter("a")).retry_after - 0.5) < 1e-9
    clock.now = 1.0
    entered(doors.enter("a")).release()
    refused(doors.enter("a"))
    clock.now = 10_000.0
    assert sum(isinstance(doors.enter("a"), Ticket) for _ in range(100)) == 60


def test_who_comes_when_he_is_told_to_is_let_in() -> None:
    doors, clock = limiter(rpm=7)
    for _ in range(7):
        entered(doors.enter("a")).release()
    for _ in range(100):
        clock.now += refused(doors.enter("a")).retry_after + 1e-9
        entered(doors.enter("a")).release()


def test_refusals_cost_nothing() -> None:
    doors, _ = limiter(concurrency=1, rpm=2)
    with entered(doors.enter("a")):
        for _ in range(10):
            refused(doors.enter("a"))
    entered(doors.enter("a")).release()


def test_a_servers_places_are_its_slots_and_its_queue() -> None:
    config = ServeConfig(
        engine=EngineConfig(slots=4),
        autoscaling=AutoscalingConfig(max=3),
        limits=LimitsConfig(queue=5),
    )
    assert Limiter.of(config).places == 4 * 3 + 5


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 5)), max_size=80),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_no_bound_is_ever_passed_and_no_place_is_lost(
    steps: list[tuple[str, bool, int]], places: int, concurrency: int
) -> None:
    doors, clock = limiter(places, concurrency, rpm=600)
    held: list[Ticket] = []
    for key, enters, which in steps:
        clock.now += 0.01
        if enters:
            result = doors.enter(key)
            if isinstance(result, Ticket):
                held.append(result)
        elif held:
            held.pop(which % len(held)).release()
        assert doors.queued == len(held) <= places
        for name in "abc":
            mine = sum(ticket.key == name for ticket in held)
            assert doors.inside[name] == mine <= concurrency
    for ticket in held:
        ticket.release()
    assert doors.queued == 0 and not doors.inside.total()
