#include "bench/http_client.h"

#include "base/clock.h"
#include "bench/bench.h"
#include "serve/listen.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define SWEEP_MS 200

typedef struct connection connection;

struct vly_http_client {
    uv_loop_t *loop;
    char *address; /* as it was given: the path of a Unix socket, or */
    bool is_tcp;
    struct sockaddr_storage tcp;
    char *key;
    connection *first;
    uv_timer_t *sweep; /* looks at deadlines */
    char read_buffer[65536];
};

struct connection {
    vly_http_client *client; /* NULL: it is gone */
    connection *previous, *next;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_pipe_t pipe;
        uv_tcp_t tcp;
    } uv;
    bool busy, whole; /* an answer is waited for; it is complete */
    vly_http_answer answer;
    uint64_t deadline_ns;
    http_parser parser;
    vly_text request;
    uv_connect_t connect;
    uv_write_t write;
};

/* ---- ending ---- */

static void on_closed(uv_handle_t *handle)
{
    connection *c = handle->data;
    vly_text_free(&c->request);
    free(c);
}

static void close_connection(connection *c)
{
    vly_http_client *client = c->client;
    if (!client) return;
    *(c->previous ? &c->previous->next : &client->first) = c->next;
    if (c->next) c->next->previous = c->previous;
    c->client = NULL;
    uv_close(&c->uv.handle, on_closed);
}

/* The exchange is over; unless it went well, so is the connection. What is told may send the next
 * request. */
static void finish(connection *c, const char *failure)
{
    vly_http_answer answer = c->answer;
    int status = c->parser.status_code;
    bool was_busy = c->busy;
    c->busy = false;
    if (failure || !http_should_keep_alive(&c->parser)) close_connection(c);
    if (was_busy) answer.on_end(answer.arg, status, failure);
}

/* ---- the parser ---- */

static int on_body(http_parser *parser, const char *data, size_t n)
{
    connection *c = parser->data;
    if (c->answer.on_body) c->answer.on_body(c->answer.arg, data, n);
    return 0;
}

static int on_complete(http_parser *parser)
{
    connection *c = parser->data;
    if (parser->status_code / 100 == 1) return 0; /* not yet the answer */
    c->whole = true;
    http_parser_pause(parser, 1);
    return 0;
}

static void parse(connection *c, const char *data, size_t n)
{
    static const http_parser_settings settings = {.on_body = on_body,
                                                  .on_message_complete = on_complete};
    size_t used = http_parser_execute(&c->parser, &settings, data, n);
    enum http_errno error = HTTP_PARSER_ERRNO(&c->parser);
    if (c->whole && used == n)
        finish(c, NULL);
    else if (c->whole || (error != HPE_OK && error != HPE_PAUSED))
        finish(c, "no HTTP");
}

/* ---- the connection ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    connection *c = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(c->client->read_buffer, sizeof c->client->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    connection *c = stream->data;
    if (!c->client || n == 0) return;
    if (!c->busy) {
        close_connection(c); /* the server ended one that was kept */
    } else if (n > 0) {
        parse(c, buffer->base, (size_t)n);
    } else {
        if (n == UV_EOF) parse(c, NULL, 0); /* some answers end with the connection */
        if (c->busy) finish(c, n == UV_EOF ? "connection ended" : uv_strerror((int)n));
    }
}

static void on_written(uv_write_t *write, int status)
{
    connection *c = write->data;
    if (status < 0 && c->client && c->busy) finish(c, uv_strerror(status));
}

static int send_request(connection *c)
{
    uv_buf_t buffer = uv_buf_init(c->request.data, (unsigned)c->request.len);
    c->write.data = c;
    http_parser_init(&c->parser, HTTP_RESPONSE);
    c->parser.data = c;
    c->whole = false;
    return uv_write(&c->write, &c->uv.stream, &buffer, 1, on_written);
}

static void on_connected(uv_connect_t *connect, int status)
{
    connection *c = connect->data;
    if (!c->client) return;
    if (!status) status = uv_read_start(&c->uv.stream, on_alloc, on_read);
    if (!status) status = send_request(c);
    if (status) finish(c, uv_strerror(status));
}

/* A kept connection, or a new one; NULL without memory. */
static connection *take_connection(vly_http_client *client, bool *is_new)
{
    for (connection *c = client->first; c; c = c->next) {
        *is_new = false;
        if (!c->busy) return c;
    }
    connection *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    if (client->is_tcp ? uv_tcp_init(client->loop, &c->uv.tcp)
                       : uv_pipe_init(client->loop, &c->uv.pipe, 0)) {
        free(c);
        return NULL;
    }
    *is_new = true;
    c->uv.handle.data = c;
    c->client = client;
    c->next = client->first;
    if (c->next) c->next->previous = c;
    client->first = c;
    return c;
}

static int write_request(const vly_http_client *client, connection *c, const char *path,
                         vly_bytes body)
{
    char head[512], key[300] = "";
    if (client->key) snprintf(key, sizeof key, "Authorization: Bearer %s\r\n", client->key);
    int n =
        body.data
            ? snprintf(head, sizeof head,
                       "POST %s HTTP/1.1\r\nHost: volley\r\n%sContent-Type: application/json"
                       "\r\nContent-Length: %zu\r\n\r\n",
                       path, key, body.len)
            : snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: volley\r\n%s\r\n", path, key);
    c->request.len = 0;
    return vly_text_append(&c->request, head, (size_t)n) ||
           vly_text_append(&c->request, body.data ? body.data : "", body.len);
}

int vly_http_client_send(vly_http_client *client, const char *path, vly_bytes body, float timeout_s,
                         const vly_http_answer *answer, vly_error *err)
{
    bool is_new;
    connection *c = take_connection(client, &is_new);
    if (!c || write_request(client, c, path, body)) {
        if (c && is_new) close_connection(c);
        return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a request");
    }
    c->busy = true;
    c->answer = *answer;
    c->deadline_ns = vly_clock_ns() + (uint64_t)((double)timeout_s * 1e9);
    int uv = 0;
    c->connect.data = c;
    if (!is_new)
        uv = send_request(c);
    else if (!client->is_tcp)
        uv_pipe_connect(&c->connect, &c->uv.pipe, client->address, on_connected);
    else
        uv = uv_tcp_connect(&c->connect, &c->uv.tcp, (const struct sockaddr *)&client->tcp,
                            on_connected);
    if (uv) {
        c->busy = false;
        close_connection(c);
        return vly_fail(err, VLY_E_IO, "cannot send a request: %s", uv_strerror(uv));
    }
    return 0;
}

/* ---- one answer ---- */

typedef struct {
    vly_text *out;
    bool ended, no_memory;
    int status;
    char failure[64];
} fetched;

static void on_fetched_body(void *arg, const char *data, size_t n)
{
    fetched *f = arg;
    if (vly_text_append(f->out, data, n)) f->no_memory = true;
}

static void on_fetched(void *arg, int status, const char *failure)
{
    fetched *f = arg;
    f->ended = true;
    f->status = status;
    snprintf(f->failure, sizeof f->failure, "%s", failure ? failure : "");
}

int vly_http_client_fetch(vly_http_client *client, const char *path, vly_bytes body,
                          float timeout_s, vly_text *out, vly_error *err)
{
    fetched f = {.out = out};
    vly_http_answer answer = {on_fetched_body, on_fetched, &f};
    int rc = vly_http_client_send(client, path, body, timeout_s, &answer, err);
    if (rc) return rc;
    while (!f.ended) uv_run(client->loop, UV_RUN_ONCE);
    if (f.no_memory) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for an answer");
    if (f.failure[0])
        return vly_fail(err, vly_bench_interrupted() ? VLY_E_CANCELLED : VLY_E_IO,
                        "%s of the server at %s: %s", path, client->address, f.failure);
    if (f.status != 200)
        return vly_fail(err, VLY_E_IO, "%s of the server at %s: expected status 200, got %d", path,
                        client->address, f.status);
    return 0;
}

/* ---- the client ---- */

static void on_sweep(uv_timer_t *timer)
{
    vly_http_client *client = timer->data;
    uint64_t now = vly_clock_ns();
    for (connection *c = client->first, *next; c; c = next) {
        next = c->next;
        if (!c->busy || (now < c->deadline_ns && !vly_bench_interrupted())) continue;
        finish(c, now < c->deadline_ns ? "interrupted" : "timeout");
        next = client->first; /* whoever was told may have changed the list */
    }
}

static void on_sweep_closed(uv_handle_t *handle)
{
    free(handle);
}

int vly_http_client_create(uv_loop_t *loop, const char *socket, const char *tcp, const char *key,
                           vly_http_client **out, vly_error *err)
{
    struct sockaddr_un address;
    if (socket && strlen(socket) >= sizeof address.sun_path)
        return vly_fail(err, VLY_E_INVALID,
                        "the socket's path has %zu bytes; an address holds at most %zu",
                        strlen(socket), sizeof address.sun_path - 1);
    if (key && strlen(key) > 256)
        return vly_fail(err, VLY_E_INVALID, "expected a key of at most 256 bytes, got %zu",
                        strlen(key));
    vly_http_client *client = calloc(1, sizeof *client);
    if (!client) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a client");
    client->loop = loop;
    client->is_tcp = !socket;
    client->address = strdup(socket ? socket : tcp ? tcp : "");
    client->key = key ? strdup(key) : NULL;
    client->sweep = malloc(sizeof *client->sweep);
    int rc = !client->address || (key && !client->key) || !client->sweep
                 ? vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a client")
                 : 0;
    if (!rc && !socket)
        rc = tcp ? vly_tcp_address_parse(tcp, &client->tcp, err)
                 : vly_fail(err, VLY_E_INVALID, "expected a socket or an address, got neither");
    if (rc) {
        free(client->sweep);
        client->sweep = NULL;
        vly_http_client_destroy(client);
        return rc;
    }
    uv_timer_init(loop, client->sweep);
    client->sweep->data = client;
    uv_timer_start(client->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    uv_unref((uv_handle_t *)client->sweep);
    *out = client;
    return 0;
}

void vly_http_client_destroy(vly_http_client *client)
{
    if (!client) return;
    while (client->first) close_connection(client->first);
    if (client->sweep) uv_close((uv_handle_t *)client->sweep, on_sweep_closed);
    free(client->address);
    free(client->key);
    free(client);
}
