"""results: nothing lost, nothing twice, acknowledged when done with; and the blobs' end."""

from __future__ import annotations

import os
import threading

import grpc
import pytest
from fake_server import FakeServer, PullFault

import framepipe
from framepipe._generated import framepipe_pb2 as pb
from framepipe.batches import Batches


@pytest.fixture
def manual(address):
    """A server that completes no frame by itself."""
    server = FakeServer(complete=False)
    server.start(address)
    yield server
    server.stop()


@pytest.fixture
def manual_client(manual, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox, reconnect_s=20) as client:
        yield client


def test_a_stream_broken_in_every_way_loses_and_repeats_nothing(client, server):
    client.push([b"x"] * 100)
    server.repeat = 3
    server.pull_faults.extend(
        [
            PullFault(0),
            PullFault(10),
            PullFault(25, grpc.StatusCode.CANCELLED),
            PullFault(4),
            PullFault(3),  # repeats only
            PullFault(30),
        ]
    )
    assert [r.sequence for r in client.results(until_drained=True)] == list(range(1, 101))
    assert not server.pull_faults and server.acknowledged == 100


def test_a_stream_that_ends_early_is_resumed(client, server):
    client.push([b"x"] * 10)
    server.pull_faults.extend([PullFault(3, None), PullFault(0, None), PullFault(2, None)])
    results = client.results()
    assert [next(results).sequence for _ in range(10)] == list(range(1, 11))
    assert [p.after_sequence for p in server.pulls] == [0, 3, 3, 5]


def test_reading_goes_on_over_a_server_that_died_and_came_back(manual, manual_client, address):
    manual_client.push([b"x"] * 4)
    manual.complete(100, 101)
    results = manual_client.results(until_drained=True)
    assert [next(results).frame, next(results).frame] == [100, 101]
    manual.stop()
    manual.start(address)
    manual.complete(102, 103)
    assert [r.frame for r in results] == [102, 103]


def test_an_outage_longer_than_reconnect_s_is_unavailable(server, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox, reconnect_s=0.1) as client:
        client.push([b"x"])
        results = client.results()
        next(results)
        server.stop()
        with pytest.raises(framepipe.Unavailable, match="broke off and could not be resumed"):
            next(results)
        with pytest.raises(framepipe.Unavailable):
            client.push([b"x"])


def test_another_reader_ends_this_one(client, server):
    client.push([b"x"] * 2)
    first = client.results()
    next(first)
    second = client.results()
    next(second)
    with pytest.raises(framepipe.ReaderReplaced, match="took over"):
        list(first)
    assert list(first) == []


def test_an_error_of_the_server_is_not_retried(client, server):
    server.pull_faults.append(PullFault(0, grpc.StatusCode.NOT_FOUND))
    with pytest.raises(framepipe.NotFound):
        next(client.results())
    assert len(server.pulls) == 1


def test_a_result_is_acknowledged_only_once_the_consumer_asks_for_the_next(client, server):
    client.push([b"x"] * 5)
    results = client.results(ack_every=1)
    assert next(results).sequence == 1
    assert server.acknowledged == 0
    assert next(results).sequence == 2
    server.wait_for(lambda: server.acknowledged == 1)
    assert next(results).sequence == 3
    results.close()
    assert server.acks[-1] == 2, "the third was still in hand"
    assert next(client.results()).sequence == 3, "so it comes again"
    assert client.ack(4) == 1


def test_acknowledgements_go_out_while_the_consumer_waits_for_more(manual, manual_client):
    manual_client.push([b"x"] * 2)
    manual.complete(100)
    results = manual_client.results()
    next(results)
    waiting = threading.Thread(target=next, args=(results,))
    waiting.start()
    manual.wait_for(lambda: manual.acknowledged == 1)
    manual.complete(101)
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_dropped_iteration_and_a_closed_client_acknowledge_what_was_done_with(server, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox) as client:
        client.push([b"x"] * 6)
        for result in client.results():
            if result.sequence == 3:
                break
        assert server.acknowledged == 2
        kept = client.results()
        assert [next(kept).sequence, next(kept).sequence] == [3, 4]
    assert server.acknowledged == 3 and list(kept) == []


def test_a_blob_is_deleted_with_its_last_result_and_not_before(manual, manual_client, inbox):
    first = manual_client.push([b"x", b"y"])
    second = manual_client.push([b"z"])
    results = manual_client.results()
    manual.complete(101)
    next(results)
    assert os.path.exists(first.blob) and os.path.exists(second.blob)
    manual.complete(102)
    next(results)
    assert os.path.exists(first.blob) and not os.path.exists(second.blob)
    manual.complete(100)
    next(results)
    assert os.listdir(inbox) == []


def test_results_that_overtake_the_answer_of_their_push_count(manual, manual_client, inbox):
    manual_client.push([b"x"])
    manual.complete(100)
    results = manual_client.results()
    next(results)
    manual.lose_push_answers = 1
    manual.push_faults.clear()
    held = threading.Event()
    call = manual_client._stub.PushData

    def hold(request, **options):
        try:
            return call(request, **options)
        finally:
            assert held.wait(20)

    manual_client._stub.PushData = hold
    push = threading.Thread(target=manual_client.push, args=([b"y"],))
    push.start()
    manual.wait_for(lambda: 101 in manual.frames)
    manual.complete(101)
    assert next(results).frame == 101
    assert len(os.listdir(inbox)) == 1
    held.set()
    push.join(20)
    assert os.listdir(inbox) == []


def test_blobs_of_unread_frames_outlive_the_client(manual, address, inbox):
    with framepipe.Client(address, stream="cam-1", inbox=inbox) as client:
        batch = client.push([b"x", b"y"])
        manual.complete(100)
        next(client.results())
    assert os.path.exists(batch.blob)


def test_a_drained_stream_ends_the_blobs_whose_results_went_elsewhere(client, server, inbox):
    client.push([b"x"])
    other = client.push([b"y"])
    client.release(other)
    assert len(os.listdir(inbox)) == 1
    client.ack(2)
    assert list(client.results(until_drained=True)) == []
    assert os.listdir(inbox) == []


def test_a_time_limit_interrupts_the_wait_and_loses_nothing(manual, manual_client):
    manual_client.push([b"x"] * 3)
    manual.complete(100)
    results = manual_client.results(timeout=0.05)
    assert next(results).frame == 100
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"no result within 0.05 s"):
            next(results)
    manual.complete(102, 101)
    patient = manual_client.results(timeout=20, until_drained=True)
    assert [r.frame for r in patient] == [102, 101]


def test_ordered_results_of_own_pushes_come_by_frame_and_as_soon_as_they_can(manual, manual_client):
    manual_client.push([b"x"] * 3)
    manual.next_frame = 200  # other streams have frames in between
    manual_client.push([b"x"] * 2)
    results = manual_client.results(ordered=True, ack_every=1)
    manual.complete(201, 102, 100)
    assert next(results).frame == 100
    manual.complete(101)
    assert [next(results).frame, next(results).frame] == [101, 102]
    manual.complete(200)
    assert [next(results).frame, next(results).frame] == [200, 201]
    results.close()
    assert manual.acknowledged == 0, "201 was the first to complete, and is still in hand"


def test_ordered_results_survive_a_break_with_results_held_back(manual, manual_client):
    manual_client.push([b"x"] * 6)
    manual.complete(103, 100, 102, 105, 101, 104)
    manual.pull_faults.extend([PullFault(2), PullFault(3), PullFault(5)])
    results = manual_client.results(ordered=True, until_drained=True)
    assert [r.frame for r in results] == [100, 101, 102, 103, 104, 105]
    assert manual.acknowledged == 6


def test_an_ordered_reader_that_pushes_nothing_sorts_within_its_window(manual, manual_client, address):
    manual_client.push([b"x"] * 7)
    manual.complete(102, 101, 103, 100, 104, 106, 105)
    with framepipe.Client(address, stream="cam-1") as reader:
        assert [r.frame for r in reader.results(ordered=True, window=2, until_drained=True)] == [
            101,  # three were held
            102,
            103,
            100,  # too late for the window
            104,
            105,
            106,
        ]
    with pytest.raises(framepipe.InvalidRequest, match="window"):
        manual_client.results(ordered=True, window=0)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_gap_is_handed_on_and_holds_nothing_back(manual, manual_client, ordered):
    batch = manual_client.push([b"x"] * 3)
    with manual.changed:
        # Two results were dropped for their age; the third frame's comes behind them.
        third = manual.frames.pop(batch.first_frame + 2)
        manual.frames.clear()
        missing = pb.FrameResult(sequence=2, gap=pb.Gap(first_sequence=1, last_sequence=2))
        third.sequence = 3
        manual.journal += [missing, third]
        manual.changed.notify_all()
    with manual_client.results(ordered=ordered, timeout=20) as results:
        first, second = next(results), next(results)
        # What is pushed afterwards is ordered as ever.
        later = manual_client.push([b"y"] * 2).first_frame
        with manual.changed:
            for sequence, frame in ((4, later + 1), (5, later)):
                result = manual.frames.pop(frame)
                result.sequence = sequence
                manual.journal.append(result)
            manual.changed.notify_all()
        then = [next(results).frame, next(results).frame]
    assert first.gap == (1, 2) and first.error is None and first.sequence == 2
    assert second.gap is None and second.frame == batch.first_frame + 2
    assert then == ([later, later + 1] if ordered else [later + 1, later])


def test_a_push_that_waits_for_room_holds_no_result_back(manual, manual_client):
    first = manual_client.push([b"x"] * 2).first_frame
    manual.complete(first + 1, first)
    read = []

    def read_two():
        with manual_client.results(ordered=True, timeout=20) as results:
            read.extend([next(results).frame, next(results).frame])

    with manual_client._batches.pushing():
        reader = threading.Thread(target=read_two, daemon=True)
        reader.start()
        reader.join(20)
    assert read == [first, first + 1]


def test_frames_that_came_early_are_forgotten_when_no_push_can_bring_them():
    batches = Batches()
    with batches.pushing():
        batches.accepted(100, 10, None)
        with batches.pushing():
            batches.received([50, 200])
        assert batches._early == {50, 200}, "the first push began when nothing was known"
        with batches.pushing():
            pass
    assert batches._early == set()
    with batches.pushing():
        batches.received([60])
        batches.received([200])
        with batches.pushing():
            pass
        assert batches._early == {200}, "its frames follow 109"


def test_a_result_carries_everything_that_the_server_says(client, server):
    client.push([b"x", b"y"])
    server.journal[0].times.add(stage="detect", queued_us=5, busy_us=7)
    server.journal[0].detections.detections_dropped = 2
    server.journal[0].detections.masks_dropped = 1
    server.journal[0].cached = True
    face = server.journal[0].detections.detections.add(class_index=3, label="face", score=0.5)
    face.box.x0, face.box.y0, face.box.x1, face.box.y1 = 1, 2, 3, 4
    face.mask.CopyFrom(pb.Mask(x=1, y=2, width=2, height=3, counts=[1, 5]))
    face.attributes.add(name="age", model="small", number=31.5)
    face.attributes.add(name="age", model="large", number=33.0)
    face.attributes.add(
        name="mood", model="small", classification=pb.Classification(label="glad", score=0.75, class_index=1)
    )
    face.attributes.add(name="id", model="arc", embedding=pb.Embedding(values=[1, 2]))
    wears = [pb.Classification(label="hat", score=0.75), pb.Classification(label="scarf", score=0.5, class_index=2)]
    face.attributes.add(name="wears", model="small", classifications=pb.Classifications(classes=wears))
    eye = pb.Keypoint(name="left eye", x=1.5, y=2.5, score=0.5)
    face.attributes.add(name="points", model="small", keypoints=pb.Keypoints(points=[eye]))
    face.attributes.add(name="badge", model="ocr", text=pb.Text(text="№ 7", score=0.25))
    server.journal[1].error.code, server.journal[1].error.message = pb.ERROR_CODE_SOURCE_GONE, "it is gone"
    good, bad = client.results(until_drained=True)
    assert (good.cached, bad.cached) == (True, False)
    assert good.times == (framepipe.StageTime("detect", 5, 7),)
    assert (good.image_size, good.error, good.detections_dropped, good.masks_dropped) == ((4, 3), None, 2, 1)
    assert good.detections == (
        framepipe.Detection(
            "face",
            3,
            0.5,
            (1, 2, 3, 4),
            {
                "age": framepipe.Attribute(31.5, None, "small"),
                "age@large": framepipe.Attribute(33.0, None, "large"),
                "mood": framepipe.Attribute("glad", 0.75, "small"),
                "id": framepipe.Attribute((1.0, 2.0), None, "arc"),
                "wears": framepipe.Attribute(
                    (framepipe.Classification("hat", 0.75), framepipe.Classification("scarf", 0.5)), None, "small"
                ),
                "points": framepipe.Attribute((framepipe.Keypoint("left eye", 1.5, 2.5, 0.5),), None, "small"),
                "badge": framepipe.Attribute("№ 7", 0.25, "ocr"),
            },
            framepipe.Mask(1, 2, 2, 3, (1, 5)),
        ),
    )
    assert good.detections[0].mask.to_numpy().tolist() == [[False, True], [True, True], [True, True]]
    assert (bad.error.code, str(bad.error), bad.detections) == ("SOURCE_GONE", "SOURCE_GONE: it is gone", ())
    assert bad.image_size is None and (bad.name, bad.batch_index, bad.frame) == ("image-1", 1, 101)
