"""When the objective is told to settle, when the learning rate drops, and when it ends."""

import pytest

from ngvae_tools.training.schedule import PlateauSchedule

STEPS = PlateauSchedule.STEPS


def told(schedule, losses, changes=False, steps=STEPS, changing=()):
    """Epochs at which the objective hears of the plateau, at which it drops, and the last epoch."""
    heard, drops = [], []

    def settle(plateau):
        first = plateau and not heard
        if plateau:
            heard.append(epoch)
        return changes and first

    for epoch, loss in enumerate(losses, 1):
        before = schedule.drops
        schedule.advance(epoch, loss, settle, steps=steps, changing=epoch in changing)
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


@pytest.mark.parametrize("losses", [[100.0] * 20, [2.0**k for k in range(30, 0, -1)]])
def test_a_fixed_number_of_epochs_tells_after_60_percent_whatever_the_losses_do(losses):
    schedule = PlateauSchedule(epochs=20)
    heard, drops, last = told(schedule, losses)
    assert (heard[0], drops, last) == (12, [], 20)
    assert not schedule.stopped


def test_one_fixed_epoch_tells_at_its_end():
    assert told(PlateauSchedule(epochs=1), [5.0]) == ([1], [], 1)


def test_a_tolerance_in_nats():
    within_a_percent = [7000.0, 7010.0, 7020.0, 7030.0, 7040.0]
    assert told(PlateauSchedule(), within_a_percent)[1] == [5]
    assert told(PlateauSchedule(nats=5.0), within_a_percent)[1] == []
    assert told(PlateauSchedule(nats=5.0), [7000.0, 7004.0, 7002.0, 7003.0, 7001.0])[1] == [5]
    assert told(PlateauSchedule(nats=5.0), [1.0, 2.0, -2.0, 0.5, 1.5])[1] == [5]


@pytest.mark.parametrize(("steps", "last"), [(STEPS, 12), (STEPS // 2, 22)])
def test_a_state_goes_on(steps, last):
    losses = [200.0, 150.0, *[100.0] * 40]
    for cut in range(1, last):
        schedule = PlateauSchedule()
        for epoch, loss in enumerate(losses[:cut], 1):
            schedule.advance(epoch, loss, lambda _: False, steps=steps)
        other = PlateauSchedule()
        other.load_state_dict(schedule.state_dict())
        for epoch, loss in enumerate(losses[cut:], cut + 1):
            other.advance(epoch, loss, lambda _: False, steps=steps)
            if other.done(epoch):
                break
        assert epoch == last


def test_short_epochs_are_pooled_until_they_have_80_steps():
    # The losses fall by 0.4 % an epoch: five epochs lie within 2 %, five pools of 2 within 4 %.
    slow = [100.0 * 0.996**k for k in range(30)]
    assert told(PlateauSchedule(max_epochs=30), [100.0 * 0.999**k for k in range(30)], steps=STEPS)[1] == [5, 10]
    assert told(PlateauSchedule(max_epochs=30), slow, steps=42) == ([], [], 30)
    assert told(PlateauSchedule(), [100.0] * 30, steps=42)[1:] == ([10, 20], 20)
    assert told(PlateauSchedule(), [100.0] * 90, steps=10)[1:] == ([40, 80], 80)
    # What is compared is the mean: losses that swing within a pool stay.
    assert told(PlateauSchedule(), [100.0, 110.0] * 20, steps=42)[1:] == ([10, 20], 20)
    assert told(PlateauSchedule(max_epochs=40), [100.0, 110.0] * 20, steps=STEPS)[1] == []


def test_no_plateau_counts_before_the_earliest_step():
    heard, drops, last = told(PlateauSchedule(earliest=800), [100.0] * 40, steps=STEPS)
    assert (heard[0], drops, last) == (10, [10, 15], 15)
    assert told(PlateauSchedule(epochs=40, earliest=800), [100.0] * 40, steps=STEPS)[0][0] == 24


@pytest.mark.parametrize(
    ("epochs", "steps", "first"),
    [
        (100, 42, 60),  # 60 % lie beyond 800 steps
        (25, 42, 20),  # 840 steps instead of 630
        (20, 42, 12),  # the 800 steps would end with the last epoch
        (20, 4, 12),
        (11, 80, 10),
        (1, 85, 1),
    ],
)
def test_60_percent_of_the_epochs_wait_for_the_earliest_step_where_there_is_time(epochs, steps, first):
    schedule = PlateauSchedule(epochs=epochs, earliest=800)
    heard, drops, last = told(schedule, [2.0**k for k in range(epochs, 0, -1)], steps=steps)
    assert (heard[0], drops, last) == (first, [], epochs)


def test_no_plateau_counts_while_the_objective_changes():
    heard, drops, last = told(PlateauSchedule(), [100.0] * 40, changes=True, changing=range(6, 15))
    # Told at 5, changing until the end of 14, then five losses of the changed objective.
    assert (heard[0], drops, last) == (5, [19, 24], 24)
