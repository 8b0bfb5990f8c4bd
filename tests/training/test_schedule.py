"""When the objective is told to settle, when the learning rate drops, and when it ends."""

import pytest

from ngvae_tools.training.schedule import PlateauSchedule


def told(schedule, losses, changes=False):
    """Epochs at which the objective hears of the plateau, at which it drops, and the last epoch."""
    heard, drops = [], []

    def settle(plateau):
        first = plateau and not heard
        if plateau:
            heard.append(epoch)
        return changes and first

    for epoch, loss in enumerate(losses, 1):
        before = schedule.drops
        schedule.advance(epoch, loss, settle)
        drops += [epoch] * (schedule.drops - before)
        if schedule.done(epoch):
            break
    return heard, drops, epoch


def test_the_paper_s_schedule():
    heard, drops, last = told(PlateauSchedule(), [200.0, 150.0, *[100.0] * 20])
    assert (heard[0], drops, last) == (7, [7, 12], 12)


def test_an_objective_that_changes_at_the_first_plateau_is_given_another():
    heard, drops, last = told(PlateauSchedule(), [100.0] * 30, changes=True)
    assert (heard[0], drops, last) == (5, [10, 15], 15)


def test_the_ceiling():
    schedule = PlateauSchedule(max_epochs=7)
    assert told(schedule, [2.0**k for k in range(20, 0, -1)]) == ([], [], 7)
    assert not schedule.stopped


@pytest.mark.parametrize(("losses", "first"), [([100.0] * 20, 5), ([2.0**k for k in range(30, 0, -1)], 12)])
def test_a_fixed_number_of_epochs_tells_at_the_plateau_or_after_60_percent(losses, first):
    schedule = PlateauSchedule(epochs=20)
    heard, drops, last = told(schedule, losses)
    assert (heard[0], drops, last) == (first, [], 20)
    assert not schedule.stopped


def test_one_fixed_epoch_tells_at_its_end():
    assert told(PlateauSchedule(epochs=1), [5.0]) == ([1], [], 1)


def test_a_tolerance_in_nats():
    within_a_percent = [7000.0, 7010.0, 7020.0, 7030.0, 7040.0]
    assert told(PlateauSchedule(), within_a_percent)[1] == [5]
    assert told(PlateauSchedule(nats=5.0), within_a_percent)[1] == []
    assert told(PlateauSchedule(nats=5.0), [7000.0, 7004.0, 7002.0, 7003.0, 7001.0])[1] == [5]
    assert told(PlateauSchedule(nats=5.0), [1.0, 2.0, -2.0, 0.5, 1.5])[1] == [5]


def test_a_state_goes_on():
    losses = [200.0, 150.0, *[100.0] * 20]
    for cut in range(1, 12):
        schedule = PlateauSchedule()
        for epoch, loss in enumerate(losses[:cut], 1):
            schedule.advance(epoch, loss, lambda _: False)
        other = PlateauSchedule()
        other.load_state_dict(schedule.state_dict())
        for epoch, loss in enumerate(losses[cut:], cut + 1):
            other.advance(epoch, loss, lambda _: False)
            if other.done(epoch):
                break
        assert epoch == 12
