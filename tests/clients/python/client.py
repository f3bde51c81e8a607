#!/usr/bin/env python3
"""A visitor and a responder of Holdfast, as an integrator would write them in Python.

It plays one evening against running services, prints a line for each thing that it has checked, and exits with 1
at the first one that is not as the contract says. The stubs are generated from proto/ (see ../main.rs):

    python -m grpc_tools.protoc -I proto --python_out=OUT --grpc_python_out=OUT proto/holdfast/v1/*.proto
    PYTHONPATH=OUT python client.py --intake 127.0.0.1:50051 --dispatch 127.0.0.1:50053
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import uuid
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, TypeVar

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from holdfast.v1 import chat_pb2 as chat
from holdfast.v1 import dispatch_pb2 as dispatch
from holdfast.v1 import dispatch_pb2_grpc, intake_pb2_grpc
from holdfast.v1 import intake_pb2 as intake

DEADLINE = 10.0  # seconds, for each call and each message that is waited for
STREAM_DEADLINE = 60.0  # seconds, for a stream as a whole

T = TypeVar("T")


class Stream:
    """The messages of a stream, read by a thread, so that each can be waited for with a deadline."""

    def __init__(self, call: Iterator[T]) -> None:
        self._messages: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, args=(call,), daemon=True).start()

    def _read(self, call: Iterator[T]) -> None:
        try:
            for message in call:
                self._messages.put(message)
            self._messages.put(None)
        except grpc.RpcError as error:
            self._messages.put(error)

    def wait_for(self, what: str, fits: Callable[[T], bool]) -> T:
        """The first message that fits; others are passed over, as clients must with what they do not know."""
        while True:
            try:
                message = self._messages.get(timeout=DEADLINE)
            except queue.Empty:
                raise SystemExit(f"FAILED: {what}: nothing came for {DEADLINE} s") from None
            if message is None or isinstance(message, grpc.RpcError):
                raise SystemExit(f"FAILED: {what}: the stream ended: {message}")
            if fits(message):
                return message

    def wait_for_end(self) -> bool:
        """Whether the stream ends by itself, and well."""
        message: object = self._messages
        while message is not None and not isinstance(message, grpc.RpcError):
            message = self._messages.get(timeout=DEADLINE)
        return message is None


class Visitor:
    """Somebody who asks for a chat. The token is all that proves their right to it: keep it out of logs."""

    def __init__(self, channel: grpc.Channel, helpline: str) -> None:
        self._intake = intake_pb2_grpc.IntakeServiceStub(channel)
        self._helpline = helpline
        self._request_id = str(uuid.uuid4())
        self.key: Optional[intake.ChatKey] = None
        self.ticket = b""  # brings the chat back if the store loses it; each update may bring a newer one

    def request(self, urgency: int, handoff: bytes) -> intake.RequestChatResponse:
        """Asks for a chat. The same again, after a time-out for instance, is answered with the same chat."""
        request = intake.RequestChatRequest(
            helpline=self._helpline, request_id=self._request_id, urgency=urgency, handoff=handoff, locale="en"
        )
        answer = self._intake.RequestChat(request, timeout=DEADLINE)
        self.ticket = answer.ticket
        self.key = intake.ChatKey(
            helpline=self._helpline, chat_id=answer.chat.chat_id, visitor_token=answer.visitor_token
        )
        return answer

    def watch(self) -> "Stream":
        """How the chat stands, now and at each change. The open stream shows that the visitor is there."""
        request = intake.WatchChatRequest(key=self.key, ticket=self.ticket)
        return Stream(self._keeping_tickets(self._intake.WatchChat(request, timeout=STREAM_DEADLINE)))

    def _keeping_tickets(self, updates: Iterable[intake.WatchChatResponse]) -> Iterator[intake.WatchChatResponse]:
        for message in updates:
            self.ticket = message.update.ticket or self.ticket
            yield message

    def leave(self) -> chat.Chat:
        """Leaves the line or the conversation."""
        return self._intake.LeaveChat(intake.LeaveChatRequest(key=self.key), timeout=DEADLINE).chat

    def erase(self) -> chat.Chat:
        """Has the content of the chat removed."""
        return self._intake.EraseChat(intake.EraseChatRequest(key=self.key), timeout=DEADLINE).chat


class Responder:
    """Somebody who takes chats over one stream in both directions, with a thread for the heartbeats."""

    def __init__(self, channel: grpc.Channel, sign_in: dispatch.SignIn) -> None:
        self._outgoing: queue.Queue = queue.Queue()
        self._number = 0
        self._gone = threading.Event()
        self._lock = threading.Lock()
        self._outgoing.put(dispatch.SessionRequest(sign_in=sign_in))
        stub = dispatch_pb2_grpc.DispatchServiceStub(channel)
        # iter(f, None) calls f until it gives None: that is how the stream of requests ends.
        self.stream = Stream(stub.Session(iter(self._outgoing.get, None), timeout=STREAM_DEADLINE))
        self.signed_in = self.stream.wait_for("signed in", lambda m: m.HasField("signed_in")).signed_in
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        every = self.signed_in.heartbeat_every.ToTimedelta().total_seconds()
        while not self._gone.wait(every):
            self._send(dispatch.Action(heartbeat=dispatch.Heartbeat()))

    def _send(self, action: dispatch.Action) -> int:
        with self._lock:
            self._number += 1
            self._outgoing.put(dispatch.SessionRequest(request_number=self._number, action=action))
            return self._number

    def act(self, **action: object) -> dispatch.ActionResult:
        """One action and its result: responder.act(close=dispatch.Close(...))."""
        number = self._send(dispatch.Action(**action))
        fits = lambda m: m.HasField("result") and m.result.request_number == number  # noqa: E731
        return self.stream.wait_for(f"the result of {next(iter(action))}", fits).result

    def offer(self, chat_id: str) -> dispatch.Offer:
        """The offer of a chat, when it comes."""
        return self.stream.wait_for("an offer", lambda m: m.HasField("offer") and m.offer.chat_id == chat_id).offer

    def sign_out(self) -> None:
        """Goes."""
        self.act(sign_out=dispatch.SignOut())
        self._gone.set()
        self._outgoing.put(None)


class BrowserResponder:
    """The same for browsers, which cannot stream both ways: messages come by Watch, actions go by Act."""

    def __init__(self, channel: grpc.Channel, sign_in: dispatch.SignIn) -> None:
        self._sign_in = sign_in
        self._stub = dispatch_pb2_grpc.DispatchServiceStub(channel)
        watch = self._stub.Watch(dispatch.WatchRequest(sign_in=sign_in), timeout=STREAM_DEADLINE)
        self.stream = Stream(response.message for response in watch)
        self._session = self.stream.wait_for("signed in", lambda m: m.HasField("signed_in")).signed_in.session
        # Should the store lose the session, the server signs in again and says so: then the newest number counts.

    def act(self, **action: object) -> dispatch.ActionResult:
        """One action; a refusal is a grpc.RpcError."""
        request = dispatch.ActRequest(
            helpline=self._sign_in.helpline,
            responder_id=self._sign_in.responder_id,
            session=self._session,
            action=dispatch.Action(**action),
        )
        return self._stub.Act(request, timeout=DEADLINE).result


def check(what: str, holds: bool) -> None:
    """One line for each thing that is as it should be; the end at the first that is not."""
    if not holds:
        raise SystemExit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


class Refusal(NamedTuple):
    """What the google.rpc details of a refused call say."""

    code: grpc.StatusCode
    reason: str  # stable, such as UNKNOWN_CHAT
    field: str  # the path of the field that was wrong, if one was
    resources: int  # how many other places to turn to came with it


def refusal(call: Callable[[], object]) -> Refusal:
    """How a call is refused that must be."""
    try:
        call()
    except grpc.RpcError as error:
        info, bad, fallback = ErrorInfo(), BadRequest(), intake.GetFallbackResponse()
        for detail in rpc_status.from_call(error).details:
            for kind in (info, bad, fallback):
                detail.Unpack(kind)  # each takes only its own
        field = bad.field_violations[0].field if bad.field_violations else ""
        return Refusal(error.code(), info.reason, field, len(fallback.resources))
    raise SystemExit("FAILED: a call that must be refused was carried out")


def state(wanted: int) -> Callable[[intake.WatchChatResponse], bool]:
    """Whether an update shows this state."""
    return lambda m: m.HasField("update") and m.update.chat.state == wanted


def one_chat_over_a_session(at_intake: grpc.Channel, at_dispatch: grpc.Channel, helpline: str) -> None:
    """A chat from the request to the end, with a responder who streams."""
    visitor = Visitor(at_intake, helpline)
    first = visitor.request(chat.URGENCY_HIGH, b"sealed for the responder")
    check("a chat is accepted and waits", first.chat.state == chat.CHAT_STATE_WAITING and not first.replayed)
    check("the answer says what it is worth", first.durability.persistence != 0)
    check("the answer says where else to turn", len(first.resources) > 0)
    check("the answer has a ticket, should the store ever lose the chat", len(first.ticket) > 0)
    again = visitor.request(chat.URGENCY_HIGH, b"sealed for the responder")
    same = (again.chat.chat_id, again.visitor_token) == (first.chat.chat_id, first.visitor_token)
    check("the same request is answered with the same chat and token", again.replayed and same)
    conflict = refusal(lambda: visitor.request(chat.URGENCY_HIGH, b"another body"))
    check("another body is refused", conflict[:2] == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_CONFLICT"))
    check("the refusal says where else to turn", conflict.resources > 0)

    updates = visitor.watch()
    updates.wait_for("the visitor sees that the chat waits", state(chat.CHAT_STATE_WAITING))
    who = dispatch.SignIn(helpline=helpline, responder_id="python-1", capacity=1, ready=True)
    responder = Responder(at_dispatch, who)
    check("the responder is ready", responder.signed_in.status == chat.RESPONDER_STATUS_READY)
    offer = responder.offer(first.chat.chat_id)
    check("the chat is offered, with its urgency", offer.urgency == chat.URGENCY_HIGH)
    reply = b"sealed for the visitor"
    accept = dispatch.Accept(chat_id=offer.chat_id, offer_number=offer.offer_number, reply_handoff=reply)
    accepted = responder.act(accept=accept)
    check("the offer is taken", accepted.code == 0)
    assignment = accepted.assignment
    check("the handoff arrives as it was sent", assignment.handoff == b"sealed for the responder")
    check("the assignment can be proven, should the store ever lose it", len(assignment.sealed) > 0)
    active = updates.wait_for("the visitor sees that somebody is there", state(chat.CHAT_STATE_ACTIVE)).update
    check("the reply arrives as it was sent", active.reply_handoff == reply)

    stale = chat.Fence(epoch=assignment.fence.epoch + 1, minted_by=assignment.fence.minted_by)
    refused = responder.act(close=dispatch.Close(chat_id=offer.chat_id, fence=stale))
    check("a stale fence changes nothing", refused.reason == "STALE_FENCE")
    on_chat = {"chat_id": offer.chat_id, "fence": assignment.fence}
    check("the responder wrote", responder.act(engaged=dispatch.Engaged(**on_chat)).code == 0)
    check("the conversation is over", responder.act(close=dispatch.Close(**on_chat)).code == 0)
    ended = updates.wait_for("the visitor sees the end", state(chat.CHAT_STATE_ENDED)).update
    check("the chat is completed", ended.chat.outcome == chat.CHAT_OUTCOME_COMPLETED)
    check("the visitor's stream ends with the chat", updates.wait_for_end())
    responder.sign_out()
    check("the responder's stream ends with the session", responder.stream.wait_for_end())
    check("the content is erased", visitor.erase().outcome == chat.CHAT_OUTCOME_COMPLETED)


def one_chat_from_a_browser(at_intake: grpc.Channel, at_dispatch: grpc.Channel, helpline: str) -> None:
    """The same with a responder whose actions are calls."""
    who = dispatch.SignIn(helpline=helpline, responder_id="python-2", capacity=1, ready=True)
    responder = BrowserResponder(at_dispatch, who)
    check("a heartbeat is a call", responder.act(heartbeat=dispatch.Heartbeat()).code == 0)
    visitor = Visitor(at_intake, helpline)
    asked = visitor.request(chat.URGENCY_IMMINENT, b"")
    updates = visitor.watch()
    is_offer = lambda m: m.HasField("offer") and m.offer.chat_id == asked.chat.chat_id  # noqa: E731
    offer = responder.stream.wait_for("an offer in the browser", is_offer).offer
    answer = dispatch.Accept(chat_id=offer.chat_id, offer_number=offer.offer_number, reply_handoff=b"reply")
    assignment = responder.act(accept=answer).assignment
    told = responder.stream.wait_for("the stream tells of it", lambda m: m.HasField("assignment")).assignment
    told.sealed = assignment.sealed  # sealed anew each time
    check("the call and the stream say the same of a chat that is taken", told == assignment)
    updates.wait_for("the visitor sees that somebody is there", state(chat.CHAT_STATE_ACTIVE))
    check("the visitor leaves a conversation", visitor.leave().outcome == chat.CHAT_OUTCOME_COMPLETED)
    is_end = lambda m: m.HasField("assignment_ended") and m.assignment_ended.chat_id == offer.chat_id  # noqa: E731
    over = responder.stream.wait_for("the responder hears of it", is_end).assignment_ended
    check("the responder hears that it is completed", over.outcome == chat.CHAT_OUTCOME_COMPLETED)
    gone = refusal(lambda: responder.act(accept=answer))
    check("an offer that is gone is refused", gone[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "OFFER_GONE"))
    responder.act(sign_out=dispatch.SignOut())
    check("the browser's stream ends with the session", responder.stream.wait_for_end())


def what_else_a_visitor_can_do(at_intake: grpc.Channel, helpline: str) -> None:
    """Leaving, being forgotten, resources, limits, and what a wrong token is worth."""
    stub = intake_pb2_grpc.IntakeServiceStub(at_intake)
    limits = stub.GetLimits(intake.GetLimitsRequest(), timeout=DEADLINE)
    check("the limits are published", limits.max_handoff_bytes == 8192 and limits.max_capacity == 20)
    visitor = Visitor(at_intake, helpline)
    too_long = refusal(lambda: visitor.request(chat.URGENCY_LOW, bytes(limits.max_handoff_bytes + 1)))
    wrong_field = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "handoff")
    check("a handoff over the limit is refused by its field", too_long[:3] == wrong_field)
    visitor.request(chat.URGENCY_LOW, b"")
    wrong = intake.ChatKey()
    wrong.CopyFrom(visitor.key)
    wrong.visitor_token = "A" * len(wrong.visitor_token)
    not_found = Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_CHAT", field="", resources=0)
    leave = lambda key: stub.LeaveChat(intake.LeaveChatRequest(key=key), timeout=DEADLINE)  # noqa: E731
    check("a wrong token is an unknown chat", refusal(lambda: leave(wrong)) == not_found)
    wrong.chat_id = "unknown"
    check("and an unknown chat looks the same", refusal(lambda: leave(wrong)) == not_found)
    check("a visitor leaves the line", visitor.leave().outcome == chat.CHAT_OUTCOME_LEFT)
    check("leaving again is answered the same", visitor.leave().outcome == chat.CHAT_OUTCOME_LEFT)
    check("a chat that is erased has ended", visitor.erase().state == chat.CHAT_STATE_ENDED)
    fallback = stub.GetFallback(intake.GetFallbackRequest(helpline=helpline, locale="en"), timeout=DEADLINE)
    check("there is somewhere else to turn", any(r.title and r.contact for r in fallback.resources))


def main() -> None:
    """Plays everything against the addresses of the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--intake", required=True, metavar="HOST:PORT")
    arguments.add_argument("--dispatch", required=True, metavar="HOST:PORT")
    arguments.add_argument("--helpline", default="demo")
    given = arguments.parse_args()
    with grpc.insecure_channel(given.intake) as at_intake, grpc.insecure_channel(given.dispatch) as at_dispatch:
        one_chat_over_a_session(at_intake, at_dispatch, given.helpline)
        one_chat_from_a_browser(at_intake, at_dispatch, given.helpline)
        what_else_a_visitor_can_do(at_intake, given.helpline)


if __name__ == "__main__":
    sys.exit(main())
