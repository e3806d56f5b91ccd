"""Several gateways: each user belongs to one, and a client that connects to another is sent there.

One gateway: every user belongs to it.
"""

import msgspec
import pytest
import websockets

from tests.journeys.conftest import new_user


def gateway_of(user, device="phone"):
    """The URL that log-in says."""
    return (user.tokens.get(device) or user.log_in(device))["gateway"]


def users_apart(http, most=20):
    """Two users of different gateways; None where there is only one gateway."""
    first = new_user(http, "ann")
    for _ in range(most):
        other = new_user(http, "ben")
        if gateway_of(other) != gateway_of(first):
            return first, other
    return None


@pytest.fixture
def apart(http):
    """Two users of different gateways."""
    found = users_apart(http)
    if found is None:
        pytest.skip("this server has one gateway")
    return found


async def test_users_of_different_gateways_talk(apart, open_device):
    """Both ways, and the sender's other device hears it too."""
    ann, ben = apart
    ann_phone, ben_phone = await open_device(ann, "phone"), await open_device(ben, "phone")
    ann_desk = await open_device(ann, "desk", packed=True)

    sent = await ann_phone.send(ben, "from one gateway")
    heard = await ben_phone.hear("message")
    answered = await ben_phone.send(ann, "to the other", reply_to=sent["message"])

    assert (heard["message"], heard["text"]) == (sent["message"], "from one gateway")
    assert (await ann_desk.hear("message", text="from one gateway"))["message"] == sent["message"]
    assert (await ann_phone.hear("message", text="to the other"))["message"] == answered["message"]
    assert int(answered["message"]) > int(sent["message"])


async def test_a_client_at_the_wrong_gateway_is_told_the_right_one(apart, open_device):
    """`moved` with the owner's whole URL, then close 4001; there it works, and GET /v1/gateways
    says the same.
    """
    ann, ben = apart
    async with websockets.connect(
        gateway_of(ben), subprotocols=["knchat.v1.json"], compression=None
    ) as socket:
        hello = {"type": "hello", "token": ann.tokens["phone"]["access_token"], "device": "phone"}
        await socket.send(msgspec.json.encode(hello).decode())
        moved = msgspec.json.decode(await socket.recv())
        with pytest.raises(websockets.ConnectionClosed) as end:
            await socket.recv()

    assert (moved["type"], moved["url"]) == ("moved", gateway_of(ann))
    assert end.value.rcvd.code == 4001
    answer = ann.get("/v1/gateways", user=ann.user)
    assert answer.status_code == 200
    assert moved["url"] in answer.text
    ann.tokens["phone"]["gateway"] = moved["url"]
    device = await open_device(ann, "phone")
    assert device.welcome["user"] == ann.user
