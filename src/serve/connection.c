/* A connection: reads requests one after the other, and sends what answers them. */
#include "serve/server.h"

#include "base/clock.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINGER_S      2.0f
#define KEEPALIVE_S   30    /* of silence, after which TCP asks whether the client is still there */
#define MAX_KEPT      65536 /* bytes of memory that a connection keeps for what it sends */
#define MAX_PIPELINED 65536 /* bytes that wait behind a request: then the reading stops */

static uint64_t deadline(float seconds)
{
    return seconds > 0 ? vly_clock_ns() + (uint64_t)((double)seconds * 1e9) : 0;
}

static void enter(vly_connection *c, vly_connection_phase phase)
{
    const vly_serve_options *o = c->server->options;
    const float limits[] = {o->idle_timeout_s, o->header_timeout_s,
                            o->body_timeout_s, o->request_timeout_s,
                            LINGER_S,          0};
    c->phase = phase;
    c->deadline_ns = deadline(limits[phase]);
}

/* ---- closing ---- */

static void on_closed(uv_handle_t *handle)
{
    vly_connection *c = handle->data;
    vly_server *server = c->server;
    *(c->previous ? &c->previous->next : &server->connections) = c->next;
    if (c->next) c->next->previous = c->previous;
    server->n_connections--;
    vly_http_reader_deinit(&c->reader);
    vly_text_free(&c->input);
    vly_text_free(&c->pending.text);
    vly_text_free(&c->flying);
    free(c);
    vly_server_check_drained(server);
}

void vly_connection_close(vly_connection *c)
{
    if (c->phase == VLY_CONNECTION_CLOSED) return;
    c->phase = VLY_CONNECTION_CLOSED;
    vly_completion *completion = c->completion;
    if (c->job) vly_job_abandon(c->job);
    c->job = NULL;
    c->completion = NULL;
    if (completion) vly_completion_cancel(completion, VLY_END_DISCONNECT);
    vly_connection **at = &c->server->unsent;
    while (*at && *at != c) at = &(*at)->next_unsent;
    if (*at) *at = c->next_unsent;
    uv_close(&c->uv.handle, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    vly_connection *c = request->data;
    if (status < 0 || c->eof) vly_connection_close(c);
}

/* All is sent: the client reads it and closes. Closing first could take from it what it has not
 * read yet. */
static void linger(vly_connection *c)
{
    if (c->phase == VLY_CONNECTION_LINGERING || c->phase == VLY_CONNECTION_CLOSED) return;
    enter(c, VLY_CONNECTION_LINGERING);
    c->shutdown.data = c;
    if (uv_shutdown(&c->shutdown, &c->uv.stream, on_shutdown)) vly_connection_close(c);
}

/* ---- sending ---- */

static void resume(vly_connection *c);

size_t vly_connection_unsent(const vly_connection *c)
{
    return c->pending.text.len + (c->writing ? c->uv.stream.write_queue_size : 0);
}

static void sent(vly_connection *c)
{
    if (c->closing_after)
        linger(c);
    else if (c->completion)
        vly_completion_on_sent(c->completion);
    else if (c->phase == VLY_CONNECTION_IDLE)
        resume(c);
}

static void send_pending(vly_connection *c);

static void on_written(uv_write_t *request, int status)
{
    vly_connection *c = request->data;
    c->writing = false;
    if (c->phase == VLY_CONNECTION_CLOSED) return;
    if (status < 0)
        vly_connection_close(c);
    else if (c->pending.text.len)
        send_pending(c);
    else
        sent(c);
}

static void send_pending(vly_connection *c)
{
    if (c->writing || c->phase == VLY_CONNECTION_CLOSED) return;
    if (c->pending.failed) {
        vly_connection_close(c);
        return;
    }
    uv_buf_t buffer = uv_buf_init(c->pending.text.data, (unsigned)c->pending.text.len);
    int n = buffer.len ? uv_try_write(&c->uv.stream, &buffer, 1) : 0;
    if (n < 0 && n != UV_EAGAIN) {
        vly_connection_close(c);
        return;
    }
    if (n < 0) n = 0;
    if ((size_t)n == buffer.len) {
        c->pending.text.len = 0;
        if (c->pending.text.cap > MAX_KEPT) vly_text_free(&c->pending.text);
        sent(c);
        return;
    }
    vly_text swap = c->flying;
    c->flying = c->pending.text;
    c->pending.text = swap;
    c->pending.text.len = 0;
    buffer = uv_buf_init(c->flying.data + n, (unsigned)(c->flying.len - (size_t)n));
    c->write.data = c;
    c->writing = uv_write(&c->write, &c->uv.stream, &buffer, 1, on_written) == 0;
    if (!c->writing) vly_connection_close(c);
}

void vly_connections_send(vly_server *server)
{
    while (server->unsent) {
        vly_connection *c = server->unsent;
        server->unsent = c->next_unsent;
        c->unsent = false;
        send_pending(c);
    }
}

/* Has what is pending sent at the end of this turn of the loop. */
static void send_soon(vly_connection *c)
{
    if (c->unsent || c->phase == VLY_CONNECTION_CLOSED) return;
    c->unsent = true;
    c->next_unsent = c->server->unsent;
    c->server->unsent = c;
}

/* ---- answering ---- */

static void begin_exchange(vly_connection *c)
{
    vly_server *server = c->server;
    c->exchange =
        (vly_exchange){.record = {.peer = c->peer, .method = "", .start_ns = vly_clock_ns()}};
    snprintf(c->exchange.record.id, sizeof c->exchange.record.id, "%016" PRIx64 "%08" PRIx64,
             server->id_prefix, ++server->n_requests);
    c->said_continue = false;
    vly_http_reader_reset(&c->reader, &(vly_http_limits){server->options->max_header_bytes,
                                                         server->options->max_body_bytes});
}

static void end_exchange(vly_connection *c)
{
    vly_log_request(c->server, &c->exchange.record);
    c->completion = NULL;
    if (c->exchange.keep_alive) {
        enter(c, VLY_CONNECTION_IDLE);
        send_soon(c);
        if (!c->processing) resume(c);
        return;
    }
    c->closing_after = true;
    c->deadline_ns = 0; /* from here on it is for the reader to take what there is */
    send_soon(c);
}

/* The status line and the header fields that all answers have. */
static void write_head(vly_connection *c, int status, const char *content_type)
{
    vly_exchange *x = &c->exchange;
    char date[40];
    struct tm tm;
    time_t now = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    x->keep_alive = c->reader.state == VLY_HTTP_COMPLETE && c->reader.request.keep_alive &&
                    c->server->state <= VLY_SERVER_READY && !(c->eof && c->input.len == 0);
    x->record.status = status;
    vly_writer_format(&c->pending,
                      "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nX-Request-Id: %s\r\n"
                      "Connection: %s\r\n",
                      status, vly_http_status_name(status), date, content_type, x->record.id,
                      x->keep_alive ? "keep-alive" : "close");
}

void vly_reply(vly_connection *c, int status, const char *content_type, const vly_writer *body,
               const char *fields)
{
    if (body->failed) {
        vly_connection_close(c);
        return;
    }
    write_head(c, status, content_type);
    vly_writer_format(&c->pending, "Content-Length: %zu\r\n%s\r\n", body->text.len, fields);
    if (strcmp(c->reader.request.method, "HEAD") != 0) {
        vly_writer_put(&c->pending, body->text.data, body->text.len);
        c->exchange.record.n_bytes = body->text.len;
    }
    end_exchange(c);
}

void vly_reply_json(vly_connection *c, int status, const vly_writer *body)
{
    vly_reply(c, status, "application/json", body, "");
}

void vly_reply_error(vly_connection *c, const vly_api_error *err)
{
    vly_writer body = {0};
    char fields[64] = "";
    vly_api_error_write(err, &body);
    if (err->status == 429 || err->status == 503)
        snprintf(fields, sizeof fields, "Retry-After: %u\r\n", vly_server_retry_after(c->server));
    if (err->status == 401) snprintf(fields, sizeof fields, "WWW-Authenticate: Bearer\r\n");
    vly_reply(c, err->status, "application/json", &body, fields);
    vly_text_free(&body.text);
}

void vly_stream_begin(vly_connection *c)
{
    write_head(c, 200, "text/event-stream; charset=utf-8");
    c->exchange.chunked = c->reader.request.chunks;
    /* A proxy that buffered it would not stream. */
    vly_writer_text(&c->pending, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
    if (c->exchange.chunked)
        vly_writer_text(&c->pending, "Transfer-Encoding: chunked\r\n");
    else
        c->exchange.keep_alive = false;
    vly_writer_text(&c->pending, "\r\n");
}

void vly_stream_send(vly_connection *c, const char *data, size_t n)
{
    if (n == 0) return;
    if (c->exchange.chunked) vly_writer_format(&c->pending, "%zx\r\n", n);
    vly_writer_put(&c->pending, data, n);
    if (c->exchange.chunked) vly_writer_put(&c->pending, "\r\n", 2);
    c->exchange.record.n_bytes += n;
    send_soon(c);
}

void vly_stream_end(vly_connection *c, bool whole)
{
    if (!whole) c->exchange.keep_alive = false;
    if (c->exchange.chunked && whole) vly_writer_text(&c->pending, "0\r\n\r\n");
    end_exchange(c);
}

/* ---- reading ---- */

static void refuse(vly_connection *c, int status, const char *reason)
{
    vly_api_error err;
    vly_api_fail(&err, status, NULL, NULL, "%s", reason);
    enter(c, VLY_CONNECTION_ANSWERING);
    vly_reply_error(c, &err);
}

static const char ended_within[] = "the connection ended within the request";

/* What a request's bytes so far have come to. */
static void follow(vly_connection *c)
{
    vly_http_reader *r = &c->reader;
    vly_request_record *record = &c->exchange.record;
    if (r->state == VLY_HTTP_BODY && c->phase == VLY_CONNECTION_READING)
        enter(c, VLY_CONNECTION_BODY);
    if (r->state == VLY_HTTP_COMPLETE || r->state == VLY_HTTP_REFUSED) {
        record->method = r->request.method;
        if (r->request.target.len)
            snprintf(record->path, sizeof record->path, "%s", r->request.target.data);
    }
    if (r->state == VLY_HTTP_REFUSED) {
        refuse(c, r->status, r->reason);
    } else if (r->state == VLY_HTTP_COMPLETE) {
        enter(c, VLY_CONNECTION_ANSWERING);
        vly_route(c);
    } else if (!c->said_continue && vly_http_reader_expects_continue(r)) {
        c->said_continue = true;
        vly_writer_text(&c->pending, "HTTP/1.1 100 Continue\r\n\r\n");
        send_soon(c);
    }
}

/* Reads requests until one has to wait for an answer; returns how many bytes that took. */
static size_t process(vly_connection *c, const char *data, size_t n)
{
    size_t used = 0;
    c->processing = true;
    while (used < n && c->phase <= VLY_CONNECTION_BODY && !c->closing_after &&
           vly_connection_unsent(c) <= c->server->options->max_buffered_bytes) {
        if (c->phase == VLY_CONNECTION_IDLE) {
            /* Empty lines between requests are none (RFC 9112, section 2.2). */
            if (data[used] == '\r' || data[used] == '\n') {
                used++;
                continue;
            }
            begin_exchange(c);
            enter(c, VLY_CONNECTION_READING);
        }
        used += vly_http_reader_feed(&c->reader, data + used, n - used);
        follow(c);
    }
    c->processing = false;
    return used;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    vly_connection *c = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(c->server->read_buffer, sizeof c->server->read_buffer);
}

/* Is the client gone, and not only done with sending? A Unix socket tells; over TCP nobody is
 * expected to close one half. */
static bool hung_up(const vly_connection *c)
{
    struct pollfd p = {.events = POLLRDHUP};
    if (uv_fileno(&c->uv.handle, &p.fd) || poll(&p, 1, 0) < 0) return true;
    return p.revents & (c->peer.is_unix ? POLLHUP | POLLERR : POLLHUP | POLLERR | POLLRDHUP);
}

static void on_eof(vly_connection *c)
{
    c->eof = true;
    c->reading = false;
    if (c->phase == VLY_CONNECTION_READING || c->phase == VLY_CONNECTION_BODY) {
        refuse(c, 400, ended_within);
    } else if (c->phase == VLY_CONNECTION_LINGERING || hung_up(c)) {
        vly_connection_close(c);
    } else if (c->phase == VLY_CONNECTION_IDLE) {
        c->closing_after = true;
        send_soon(c);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    vly_connection *c = stream->data;
    if (n == UV_EOF) {
        on_eof(c);
    } else if (n < 0) {
        vly_connection_close(c);
    } else if (n > 0 && c->phase < VLY_CONNECTION_LINGERING && !c->closing_after) {
        size_t used = c->input.len ? 0 : process(c, buffer->base, (size_t)n);
        if (vly_text_append(&c->input, buffer->base + used, (size_t)n - used))
            vly_connection_close(c);
        if (c->input.len > MAX_PIPELINED && c->reading) {
            uv_read_stop(stream);
            c->reading = false;
        }
    }
}

/* Goes on with what was read already, then with the rest. */
static void resume(vly_connection *c)
{
    if (c->input.len && !c->processing) {
        size_t used = process(c, c->input.data, c->input.len);
        memmove(c->input.data, c->input.data + used, c->input.len - used);
        c->input.len -= used;
        if (c->input.len == 0) vly_text_free(&c->input);
    }
    if (c->phase == VLY_CONNECTION_CLOSED) return;
    if (!c->reading && !c->eof && c->input.len <= MAX_PIPELINED)
        c->reading = uv_read_start(&c->uv.stream, on_alloc, on_read) == 0;
    if (!c->eof || c->input.len > 0 || c->processing) return;
    if (c->phase == VLY_CONNECTION_READING || c->phase == VLY_CONNECTION_BODY) {
        refuse(c, 400, ended_within);
    } else if (c->phase == VLY_CONNECTION_IDLE) {
        c->closing_after = true;
        send_soon(c);
    }
}

/* ---- deadlines ---- */

static void time_out(vly_connection *c)
{
    switch (c->phase) {
    case VLY_CONNECTION_READING:
    case VLY_CONNECTION_BODY:
        refuse(c, 408, "the request took too long to come");
        break;
    case VLY_CONNECTION_ANSWERING:
        if (c->job) break; /* it is looked at again when that is done */
        c->deadline_ns = 0;
        if (c->completion) vly_completion_cancel(c->completion, VLY_END_TIMEOUT);
        break;
    default:
        vly_connection_close(c);
    }
}

void vly_connection_check(vly_connection *c, uint64_t now_ns)
{
    size_t unsent = vly_connection_unsent(c);
    float limit_s = c->server->options->write_timeout_s;
    if (c->phase == VLY_CONNECTION_CLOSED) return;
    if (unsent == 0 || unsent != c->stalled_bytes) {
        c->stalled_bytes = unsent;
        c->stalled_ns = now_ns;
    } else if (limit_s > 0 && (double)(now_ns - c->stalled_ns) > (double)limit_s * 1e9) {
        vly_connection_close(c);
        return;
    }
    if (c->deadline_ns && now_ns >= c->deadline_ns) {
        /* An answer that is being read keeps the connection busy. */
        if (c->phase != VLY_CONNECTION_IDLE || unsent == 0) time_out(c);
    } else if (!c->reading && c->phase == VLY_CONNECTION_ANSWERING && hung_up(c)) {
        vly_connection_close(c); /* nothing is read that would tell */
    }
}

/* ---- accepting ---- */

/* Is one more of this peer's too many? */
static bool too_many(const vly_server *server, const vly_peer *peer, vly_api_error *err)
{
    const vly_serve_options *o = server->options;
    uint32_t n = 0;
    if (o->max_connections && server->n_connections >= o->max_connections)
        return vly_api_fail(err, 503, "too_many_connections", NULL,
                            "this server has its %u connection%s already", o->max_connections,
                            vly_plural(o->max_connections));
    for (const vly_connection *c = server->connections; c; c = c->next)
        n += vly_peer_same(&c->peer, peer);
    return o->max_peer_connections && n >= o->max_peer_connections &&
           vly_api_fail(err, 429, "too_many_connections", NULL,
                        "this client has its %u connection%s already", o->max_peer_connections,
                        vly_plural(o->max_peer_connections));
}

/* Says so, as far as that takes no waiting. */
static void turn_away(vly_connection *c, const vly_api_error *err)
{
    vly_writer body = {0}, all = {0};
    vly_api_error_write(err, &body);
    vly_writer_format(&all,
                      "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nRetry-After: %u\r\n"
                      "Connection: close\r\nContent-Length: %zu\r\n\r\n",
                      err->status, vly_http_status_name(err->status),
                      vly_server_retry_after(c->server), body.text.len);
    vly_writer_put(&all, body.text.data, body.text.len);
    uv_buf_t buffer = uv_buf_init(all.text.data, (unsigned)all.text.len);
    if (!all.failed && !body.failed) uv_try_write(&c->uv.stream, &buffer, 1);
    vly_text_free(&all.text);
    vly_text_free(&body.text);
    c->server->metrics.connections_refused++;
}

static void on_refused_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int init_stream(vly_connection *c, uv_stream_t *listener)
{
    uv_loop_t *loop = &c->server->loop;
    return listener->type == UV_NAMED_PIPE ? uv_pipe_init(loop, &c->uv.pipe, 0)
                                           : uv_tcp_init(loop, &c->uv.tcp);
}

void vly_connection_accept(uv_stream_t *listener, int status)
{
    vly_server *server = listener->data;
    bool is_unix = listener->type == UV_NAMED_PIPE;
    vly_connection *c = status < 0 ? NULL : calloc(1, sizeof *c);
    if (!c) return;
    c->server = server;
    if (init_stream(c, listener)) {
        free(c);
        return;
    }
    c->uv.handle.data = c;
    if (uv_accept(listener, &c->uv.stream)) {
        uv_close(&c->uv.handle, on_refused_closed);
        return;
    }
    vly_peer_read(&c->uv.stream, is_unix, &c->peer);
    vly_api_error err;
    if (too_many(server, &c->peer, &err)) {
        turn_away(c, &err);
        uv_close(&c->uv.handle, on_refused_closed);
        return;
    }
    if (!is_unix) uv_tcp_nodelay(&c->uv.tcp, 1);
    if (!is_unix) uv_tcp_keepalive(&c->uv.tcp, 1, KEEPALIVE_S);
    server->metrics.connections_accepted++;
    server->n_connections++;
    c->next = server->connections;
    if (c->next) c->next->previous = c;
    server->connections = c;
    enter(c, VLY_CONNECTION_IDLE);
    vly_server_watch(server);
    resume(c);
}
