"""The life of one exchange. Read this first.

    application        ExchangeRun                                              model server
        │  head  ────▶ request_head   draw up its plan, or refuse it
        │  body  ────▶ request_body   gather it; where no policy reads it, stream it onward
        │        ────▶ request_end    show the prompt to the policies of its route
        │              _decided       Forward · Deny · Decoy · Delegate
        │              upstream_ready ──────────── the request, spliced ──────▶ │
        │              answer_head    how is this answer to be read?    ◀────── │
        │ ◀──answer─── answer_body    put back what was taken out       ◀────── │
        │              answer_end     (answer_whole: all three)         ◀────── │
        │              _finish        one leaf, one record, effects: whatever happened

Nothing here waits. Each method is told what just happened, does what follows from it and returns; an exchange costs no
task, no future and no await. The client's connection (listener.py) tells of the request, the upstream's (upstream.py)
of the answer, the wheel (deadlines.py) of time. `flush` ends every telling, so that what came at once leaves at once.
What may end an exchange at any moment stands at the end: the client goes away, the upstream fails, time runs out.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from policies.model import Decoy, Delegate, Deny, Effect, Forward, ResultCode, UnixNanos
from sidecar import refusals
from sidecar.account import Account, ended_as
from sidecar.answering import Answering, is_restored_at_once, restored_at_once
from sidecar.codecs.http1_chunked import chunk, whole_chunk, whole_chunks
from sidecar.codecs.http1_delivery import Delivery, at_once, delivery_to
from sidecar.codecs.http1_errors import BadRequestError
from sidecar.codecs.http1_head import AnswerHead, RequestHead
from sidecar.dialects.dialect import AnswerRefusedError, MalformedAnswerError
from sidecar.inspection import Inspected, inspect
from sidecar.patience import Patience
from sidecar.plan import Plan
from sidecar.ports import Client
from sidecar.refusals import Refusal, error_head
from sidecar.sending import SHORT_BODY, Sending
from sidecar.services import Services
from sidecar.upstream import UpstreamConnection
from sidecar.upstream_errors import UpstreamError

ASKED_AGAIN: Final = 5
"""How often a model is asked again at most, whatever a policy wants: each time is paid for."""

logger = logging.getLogger(__name__)

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ExchangeRun:
    """The state of one exchange. Owned by its client's connection."""

    def __init__(self, services: Services, client: Client, head: RequestHead, length: int) -> None:
        """`length`: of the body, or CHUNKED. What is no request at all has the head NO_HEAD."""
        self._services = services
        self._client = client
        self._head = head
        snapshot = services.snapshots.current
        plan: Plan | None = head.plan
        if plan is None or plan.snapshot is not snapshot:
            plan = services.planner.plan(head, snapshot)
        self._plan = plan
        self._account = account = Account(services.now())
        self.id = services.new_id(account.started_at)
        self._began_at = services.clock()
        self._patience: Patience | None = None
        """Made when somebody asks for it: most exchanges end before."""
        self._over = False

        self._sending = Sending(services, head, length, plan, account)
        """The request on its way out."""
        self._inspected: Inspected | None = None
        """What the policies made of it."""
        self._effects: tuple[Effect, ...] = ()

        self._is_asking = False
        """Whether a connection was requested from the pool."""
        self._connection: UpstreamConnection | None = None
        """Ours while an answer is due."""
        self._was_sent_again = False

        self._answering: Answering | None = None
        """The answer on its way back, from its head on; None, too, if it came whole and nobody changes it."""
        self._whole_answer = b""
        """The same as bytes for the client, if nothing can happen to it any more."""
        self._delivery: Delivery | None = None
        """The same where it comes in pieces or is changed, or what the client is told instead."""
        self._follow: Callable[[bytes], bytes | None] | None = None
        """The short way for what comes of an answer that is on its way to the client in chunks; None: not now."""
        self._asks_again = False
        """Whether the answer at hand is void and another one will be asked for."""
        self._times_asked_again = 0

    # --- the request comes in ---

    def request_head(self, traceparent: bytes) -> None:
        """A request began."""
        head, sending, services, account = self._head, self._sending, self._services, self._account
        refusal = sending.refusal_at_head()
        if refusal is not None:
            if head.expects_continue or sending.length > SHORT_BODY:
                self._refuse(refusal)
            return
        if traceparent or services.telemetry.begins_traces:
            account.traceparent, account.parent_span = services.telemetry.trace(traceparent.decode("ascii"))
        if head.expects_continue and sending.length:
            self._client.send(_CONTINUE)

    def request_body(self, data: bytes) -> None:
        """Some of the body came."""
        self._waits().moved_at = self._services.clock()
        if not self._over:
            refusal = self._sending.hold(data)
            if refusal is not None:
                self._refuse(refusal)

    def request_end(self, data: bytes) -> None:
        """The request is whole."""
        if self._over:
            return
        sending = self._sending
        refusal = sending.end(data)
        if refusal is not None:
            self._refuse(refusal)
        elif sending.holds:
            self._inspect(sending.taken(data))
        elif self._is_asking:
            sending.keep(data)
        else:
            sending.whole = sending.taken(data)
            self._ask()

    def request_flush(self) -> None:
        """All that came at once was told. What is not whole and no policy reads goes onward."""
        sending = self._sending
        if self._over or sending.holds or sending.refusal is not None or sending.whole is not None:
            return
        if self._connection is not None:
            sending.go_on(self._connection)
        elif not self._is_asking:
            self._ask()

    # --- the policies decide ---

    def _inspect(self, body: bytes) -> None:
        plan, services, started_at = self._plan, self._services, self._account.started_at
        if len(body) <= services.limits.inline_body:
            self._decided(inspect(body, plan, self.id, services.peer, started_at))
        elif services.inspector.waiting >= services.limits.waiting_bodies:
            self._refuse(refusals.CROWDED)
        else:
            self._waits().queued_at = services.clock()
            work = partial(inspect, body, plan, self.id, services.peer, started_at)
            services.inspector.submit(len(body), work, self._decided, self._is_wanted)

    def _is_wanted(self) -> bool:
        return not self._over

    def _decided(self, inspected: Inspected | None) -> None:
        """The verdict is there, or None: the inspection failed, and what was not inspected does not leave."""
        if self._patience is not None:
            self._patience.queued_at = None
        if self._over:
            return
        if inspected is None:
            self._refuse(refusals.INTERNAL)
            return
        account, verdict = self._account, inspected.verdict
        self._inspected = inspected
        account.model = inspected.model
        account.stream = inspected.stream
        account.findings = inspected.findings
        self._effects = verdict.effects
        match verdict:
            case Forward():
                account.task = verdict.task
                self._sending.whole = inspected.body
                self._ask()
            case Deny():
                self._refuse(Refusal(verdict.result, verdict.status, verdict.code, verdict.message))
            case Decoy():
                self._answer_here(inspected.content_type, inspected.body, ResultCode.DECOY)
            case Delegate():
                account.task = verdict.task
                self._services.plugins.answer(verdict, self._plugin_answered)

    def _plugin_answered(self, answer: str | None) -> None:
        """A plugin's answer is there, or None: it gave none."""
        if self._over:
            return
        assert self._inspected is not None  # noqa: S101 it was asked for what was inspected
        if answer is None or self._inspected.render is None:
            self._refuse(refusals.NO_PLUGIN_ANSWER)
            return
        self._answer_here(*self._inspected.render(answer, self.id), ResultCode.DELEGATED)

    def _answer_here(self, content_type: str, body: bytes, result: ResultCode) -> None:
        """Answer in place of the model, which is never called."""
        self._account.status = 200
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n".encode("latin-1")
        delivery = self._delivering()
        delivery.whole(head + self._own_fields(), body)
        self._end(delivery, result)

    # --- the request goes out ---

    def _ask(self, *, fresh: bool = False) -> None:
        self._is_asking = True
        assert self._plan.pool is not None  # noqa: S101 a plan without one is a refusal
        self._plan.pool.request(self, fresh=fresh)

    def upstream_ready(self, connection: UpstreamConnection) -> bool:
        """Here is a connection for the request. False if it is not needed any more."""
        if self._over:
            return False
        self._connection = connection
        self._account.sent_at = self._services.now()
        self._sending.begin(self, connection)
        return True

    def upstream_full(self) -> None:
        """The upstream takes the request slowly."""
        if not self._sending.is_whole:
            self._client.pause()

    def upstream_drained(self) -> None:
        """Go on."""
        self._waits().moved_at = self._services.clock()
        self._client.resume()

    # --- the answer comes back ---

    def answer_interim(self, head: AnswerHead) -> None:
        """A 1xx answer. 100 is between us and the upstream; HTTP/1.0 knows none of them."""
        if not self._over and head.status != 100 and self._head.is_http11:
            self._client.send(head.rendered + b"\r\n")

    def answer_head(self, head: AnswerHead, length: int) -> None:
        """The answer began."""
        if self._over:
            return
        self._account.status = head.status
        self._answering = answering = Answering(self._plan, self._delivering(), self._services.now)
        try:
            answering.begin(head, length, self._own_fields(), self._inspected)
        except MalformedAnswerError as error:
            self._refuse(refusals.malformed_answer(error))

    def _own_fields(self) -> bytes:
        if self._inspected is None or not self._inspected.redacted:
            return b"x-aegis-request-id: %b\r\n" % self.id.encode("ascii")
        # Who only ever sees restored values should know that something was taken out.
        return f"x-aegis-request-id: {self.id}\r\nx-aegis-redacted: {self._inspected.redacted}\r\n".encode("ascii")

    def answer_body(self, data: bytes) -> None:
        """Some of the answer came."""
        self._read_answer(data, ended=False)

    def answer_chunk(self, data: bytes) -> bool:
        """Some of the answer came, framing and all: what is one chunk, or several, takes a short way. Else False."""
        follow = self._follow
        if follow is None:
            return False
        start = whole_chunk(data)
        if not start:
            return self._answer_chunks(whole_chunks(data))
        body = data[start:-2]
        try:
            released = follow(body)
        except (AnswerRefusedError, MalformedAnswerError) as error:
            self._account.received(body)
            self._answer_is_void(error)
            return True
        if released is None:
            return False
        self._account.received(body)
        if released is body:
            self._client.send(data)  # framed as we would do it
        elif released:
            self._client.send(chunk(released))
        return True

    def _answer_chunks(self, contents: list[bytes]) -> bool:
        """Several chunks of the answer came at once, an event each, perhaps: they leave at once. False: none came."""
        for body in contents:
            self._read_answer(body, ended=False)
        if contents:
            self.flush()
        return bool(contents)

    def answer_end(self, data: bytes) -> None:
        """The answer is whole, and its connection the pool's again."""
        connection, self._connection = self._connection, None
        if connection is None or self._over:
            return
        if not self._sending.is_whole:
            connection.abandon()  # it answered early and would take the rest for another request
            self._delivering().keep_alive = False
        elif self._patience is not None and self._patience.stalled_at is not None:
            connection.resume()
        self._read_answer(data, ended=True)

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """The answer came at once, as most do. Nobody has to wait for any of it."""
        inspected, account = self._inspected, self._account
        reads = inspected is not None and (inspected.changes_answer or head.status >= 400 or head.is_stream)
        plain = self._sending.is_whole and self._head.is_persistent and not self._services.draining
        waits = self._connection is None or self._patience is not None
        longest = self._services.limits.inline_body
        if waits or not plain or (reads and not is_restored_at_once(head, body, inspected, longest)):
            self.answer_head(head, len(body))
            self.answer_end(body)
            return
        self._connection = None
        account.status = head.status
        if body:
            account.received(body)
        if reads and inspected is not None:
            try:
                body = restored_at_once(head, body, self._plan.dialect, inspected, account, self._services.now())
            except (AnswerRefusedError, MalformedAnswerError) as error:
                self._answer_is_void(error)
                return
        elif inspected is not None and not head.content_encoding:
            account.observed = self._plan.dialect.note(body)
        self._whole_answer = at_once(head.rendered, self._own_fields(), body)

    def _read_answer(self, data: bytes, *, ended: bool) -> None:
        answering = self._answering
        if answering is None or self._over or self._asks_again:
            return
        try:
            if data:
                self._account.received(data)
                answering.feed(data)
            if ended and answering.waits_for_its_end(self._services.limits.inline_body):
                size = self._account.response_bytes
                self._services.inspector.submit(size, answering.rest_or_reason, self._answer_came_back, self._is_wanted)
            elif ended:
                answering.end(answering.rest())
        except (AnswerRefusedError, MalformedAnswerError) as error:
            self._answer_is_void(error)

    def _answer_came_back(self, rest: bytes | AnswerRefusedError | MalformedAnswerError | None) -> None:
        """The inspector's thread has read a long answer, or failed to: None."""
        answering = self._answering
        if self._over or answering is None:
            return
        answering.is_away = False
        if isinstance(rest, bytes):
            answering.end(rest)
        elif rest is None:
            self._refuse(refusals.INTERNAL)
        else:
            self._answer_is_void(rest)
        self.flush()

    def _answer_is_void(self, error: AnswerRefusedError | MalformedAnswerError) -> None:
        """It cannot be read, or a policy ended it: then the model is asked again, if nobody saw anything of it."""
        if isinstance(error, MalformedAnswerError):
            self._refuse(refusals.malformed_answer(error))
            return
        deny = error.deny
        if deny.retry and self._times_asked_again < ASKED_AGAIN and not self._delivering().begun:
            self._times_asked_again += 1
            self._asks_again = True
            self._drop_upstream()
            return
        self._effects += deny.effects
        self._refuse(Refusal(deny.result, deny.status, deny.code, deny.message))

    def flush(self) -> None:
        """All that came at once was told. What may leave does so in one write."""
        if self._whole_answer and not self._over:
            account = self._account
            account.first_chunk_at = now = self._services.now()
            self._client.send(self._whole_answer)
            self._finish(ended_as(account.status, account.observed), now)
            return
        if self._asks_again:
            self._begin_anew()
        answering = self._answering
        if self._over or answering is None or not answering.may_leave:
            return
        delivery = self._delivering()
        if delivery.ended:
            self._end(delivery, answering.result)
        else:
            self._deliver(delivery, self._services.now())
            if self._follow is None and self._account.first_chunk_at:
                self._follow = answering.follow

    def _delivering(self) -> Delivery:
        if self._delivery is None:
            self._delivery = delivery_to(self._head)
        return self._delivery

    def _deliver(self, delivery: Delivery, now: UnixNanos) -> None:
        if self._services.draining:
            delivery.keep_alive = False
        if not self._account.first_chunk_at and delivery.has_news:
            self._account.first_chunk_at = now
        self._client.send(delivery.take())

    def _begin_anew(self) -> None:
        assert self._inspected is not None and self._inspected.policies is not None  # noqa: S101, PT018 a policy asked
        self._asks_again = False
        self._answering = None
        self._inspected.policies.restart()
        self._ask()

    # --- what may end it at any moment ---

    def client_gone(self) -> None:
        """Nobody is left to answer."""
        if not self._over:
            self._finish(ResultCode.CLIENT_GONE, self._services.now())

    def client_full(self) -> None:
        """The client reads slowly: so do we."""
        self._waits().stalled_at = self._services.clock()
        if self._connection is not None:
            self._connection.pause()

    def client_drained(self) -> None:
        """Go on."""
        self._waits().stalled_at = None
        if self._connection is not None:
            self._connection.resume()

    def upstream_failed(self, error: UpstreamError) -> None:
        """There is no connection, or it broke before the end of the answer."""
        if self._over:
            return
        connection, self._connection = self._connection, None
        if connection is not None and self._may_send_again(connection):
            self._was_sent_again = True
            self._ask(fresh=True)
            return
        self._refuse(refusals.upstream_refusal(error))

    def _may_send_again(self, connection: UpstreamConnection) -> bool:
        # RFC 9110 section 9.2.2: a POST is not repeated unless it is known that it was not acted upon. A prompt sent
        # twice is paid for twice.
        if self._answering is not None or self._was_sent_again or self._sending.whole is None:
            return False
        return connection.has_accepted_nothing

    def reject(self, error: BadRequestError) -> None:
        """The client's bytes are no request."""
        if not self._over:
            self._refuse(refusals.malformed(error))

    def broke(self) -> None:
        """An error of our own: nothing more may leave."""
        if not self._over:
            self._refuse(refusals.INTERNAL)

    def look_at_clock(self, now: float) -> float:
        """Ends the exchange if it takes too long; when to look again."""
        due, refusal = self._waits().next_end(self._services.limits, self._sending, self._connection)
        if now >= due and not self._over:
            self._refuse(refusal)
        return due

    def _waits(self) -> Patience:
        if self._patience is None:
            self._patience = Patience(self._began_at, self._plan)
        return self._patience

    # --- the end ---

    def _refuse(self, refusal: Refusal) -> None:
        """Ends the exchange with an error, in whatever way the client can still be told."""
        self._drop_upstream()
        if refusal.status >= 500:
            what = {"code": refusal.code, "detail": refusal.message}
            logger.warning("exchange failed", extra={**what, "route": self._plan.route_name, "exchange": self.id})
        delivery = self._delivering()
        if not delivery.begun:
            self._account.status = refusal.status
            body = self._plan.dialect.error(refusal.status, refusal.code, refusal.message, self.id)
            delivery.whole(error_head(refusal, self.id), body)
            delivery.keep_alive = delivery.keep_alive and self._sending.is_whole
        elif event := self._answering.error_event(refusal.code, refusal.message) if self._answering else b"":
            delivery.body(event)
            delivery.end()
            delivery.keep_alive = False
        else:
            self._client.abort()  # the one way left to say that this is not the end it should have had
            self._finish(refusal.result, self._services.now())
            return
        self._end(delivery, refusal.result)

    def _drop_upstream(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _end(self, delivery: Delivery, result: ResultCode) -> None:
        """The last of the answer leaves."""
        now = self._services.now()
        self._deliver(delivery, now)
        self._finish(result, now)

    def _finish(self, result: ResultCode, now: UnixNanos) -> None:
        """The only way out."""
        self._over = True
        self._follow = None
        if self._connection is not None:
            self._drop_upstream()
        services, account, plan, answering = self._services, self._account, self._plan, self._answering
        if answering is not None:
            account.observed = answering.observed or account.observed
            account.findings = answering.findings or account.findings
        services.audit.append(account.entry(self.id, plan, result, now))
        services.telemetry.record(account.record(self.id, plan, result, now))
        if self._sending.reserved:
            services.bodies.give(self._sending.reserved)
        if self._effects:
            services.effects.carry_out(self._effects, self.id, now)
        self._client.finished(keep_alive=self._delivery is None or self._delivery.keep_alive)
