/* The server's life: listening, loading, serving, ending. */
#include "serve/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/server.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#define SWEEP_MS      100
#define LAST_WORDS_NS UINT64_C(1000000000) /* for what is cut short to be told so */

vly_serve_options vly_serve_options_default(void)
{
    return (vly_serve_options){.socket_mode = 0600,
                               .max_connections = 512,
                               .max_peer_connections = 128,
                               .max_header_bytes = 16384,
                               .max_body_bytes = 4 << 20,
                               .max_buffered_bytes = 256 << 10,
                               .header_timeout_s = 10,
                               .body_timeout_s = 30,
                               .idle_timeout_s = 120,
                               .write_timeout_s = 60,
                               .request_timeout_s = 600,
                               .drain_timeout_s = 30,
                               .draft_max = VLY_DRAFT_MAX_DEFAULT};
}

/* ---- ending ---- */

static void close_listeners(vly_server *s)
{
    for (uint32_t i = 0; i < s->n_listeners; i++) vly_listener_close(&s->listeners[i]);
}

static void close_handle(uv_handle_t *handle)
{
    if (handle->type != UV_UNKNOWN_HANDLE && !uv_is_closing(handle)) uv_close(handle, NULL);
}

/* Closes all that keeps the loop going, but for the engine's. */
static void stop(vly_server *s)
{
    if (s->state == VLY_SERVER_STOPPED) return;
    s->state = VLY_SERVER_STOPPED;
    close_listeners(s);
    for (vly_connection *c = s->connections; c; c = c->next) vly_connection_close(c);
    close_handle((uv_handle_t *)&s->signals[0]);
    close_handle((uv_handle_t *)&s->signals[1]);
    /* What is left to be done is short: a further signal should not make a failure of it. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    close_handle((uv_handle_t *)&s->sweep);
    close_handle((uv_handle_t *)&s->before_waiting);
}

void vly_server_check_drained(vly_server *s)
{
    if (s->state == VLY_SERVER_DRAINING && !s->connections && !s->completions && !s->n_jobs)
        stop(s);
}

void vly_server_drain(vly_server *s)
{
    const vly_serve_options *o = s->options;
    if (s->state == VLY_SERVER_LOADING || s->state >= VLY_SERVER_DRAINING) {
        stop(s);
        return;
    }
    s->state = VLY_SERVER_DRAINING;
    vly_log(VLY_LOG_INFO, "serve", "ending: %u connection%s, at most %g s", s->n_connections,
            vly_plural(s->n_connections), (double)o->drain_timeout_s);
    vly_notify_systemd("STOPPING=1");
    /* Who asks meanwhile is told of a failure. */
    if (!s->failure.code) close_listeners(s);
    for (vly_connection *c = s->connections; c; c = c->next)
        if (c->phase == VLY_CONNECTION_IDLE && vly_connection_unsent(c) == 0)
            vly_connection_close(c);
    s->drain_deadline_ns = vly_clock_ns() + (uint64_t)((double)o->drain_timeout_s * 1e9);
    vly_server_watch(s);
    vly_server_check_drained(s);
}

/* The deadline has passed: what still runs is told so, and then cut off. */
static void end_drain(vly_server *s, uint64_t now_ns)
{
    if (now_ns >= s->drain_deadline_ns + LAST_WORDS_NS) {
        stop(s);
        return;
    }
    for (vly_connection *c = s->connections; c; c = c->next) {
        if (c->completion)
            vly_completion_cancel(c->completion, VLY_END_SHUTDOWN);
        else if (!c->job && vly_connection_unsent(c) == 0)
            vly_connection_close(c);
    }
}

/* ---- what the loop calls ---- */

static void on_signal(uv_signal_t *handle, int number)
{
    vly_server *s = handle->data;
    vly_log(VLY_LOG_INFO, "serve", "%s", number == SIGINT ? "SIGINT" : "SIGTERM");
    vly_server_drain(s);
}

static void on_sweep(uv_timer_t *timer)
{
    vly_server *s = timer->data;
    uint64_t now = vly_clock_ns();
    for (vly_connection *c = s->connections; c; c = c->next) vly_connection_check(c, now);
    if (s->state == VLY_SERVER_DRAINING && now >= s->drain_deadline_ns) end_drain(s, now);
    if (!s->connections && s->state != VLY_SERVER_DRAINING) uv_timer_stop(timer);
}

void vly_server_watch(vly_server *s)
{
    if (!uv_is_active((uv_handle_t *)&s->sweep) && s->state != VLY_SERVER_STOPPED)
        uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

static void on_before_waiting(uv_prepare_t *prepare)
{
    vly_server *s = prepare->data;
    if (!s->unsent) return;
    uint64_t start_ns = vly_clock_ns();
    vly_connections_send(s);
    s->metrics.serve_s += (double)(vly_clock_ns() - start_ns) * 1e-9;
}

/* Clients of OpenAI's API heed a minute at most. */
#define MAX_RETRY_AFTER_S 60

uint32_t vly_server_retry_after(const vly_server *s)
{
    double seconds = 0;
    if (s->state == VLY_SERVER_LOADING && s->loaded_bytes > 0) {
        double elapsed_s = (double)(vly_clock_ns() - s->start_ns) * 1e-9;
        seconds = elapsed_s * (double)(s->total_bytes - s->loaded_bytes) / (double)s->loaded_bytes;
    } else if (s->engine) {
        /* When half of those that wait have had their turn, if they take as long as the last. */
        vly_engine_metrics e;
        vly_engine_get_metrics(s->engine, &e);
        seconds = s->metrics.mean_run_s * (1 + 0.5 * e.queued) / (e.running ? e.running : 1);
    }
    return seconds < 1                   ? 1
           : seconds > MAX_RETRY_AFTER_S ? MAX_RETRY_AFTER_S
                                         : (uint32_t)ceil(seconds);
}

/* ---- beginning ---- */

/* The keys of a file: its lines, without spaces around them; empty ones and those that begin with
 * '#' are none. */
static int read_keys(vly_server *s, const char *path, vly_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return vly_fail(err, errno == ENOENT ? VLY_E_NOT_FOUND : VLY_E_IO, "%s: %s", path,
                        strerror(errno));
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;
    for (ssize_t n; !rc && (n = getline(&line, &cap, file)) >= 0;) {
        char *key = line + strspn(line, " \t\r\n");
        size_t len = strcspn(key, " \t\r\n");
        if (len == 0 || key[0] == '#') continue;
        key[len] = '\0';
        if ((rc = vly_text_append(&s->keys, key, len + 1)))
            vly_fail(err, rc, "no memory for the keys");
    }
    if (!rc && ferror(file)) rc = vly_fail(err, VLY_E_IO, "%s: cannot be read", path);
    free(line);
    fclose(file);
    if (!rc && s->keys.len == 0)
        rc = vly_fail(err, VLY_E_INVALID, "%s: expected a key in a line, found none", path);
    return rc;
}

static int open_listeners(vly_server *s, vly_error *err)
{
    const vly_serve_options *o = s->options;
    bool loopback_only = s->keys.len == 0;
    int rc = vly_listener_open_passed(&s->loop, loopback_only, s->listeners, VLY_MAX_LISTENERS - 2,
                                      &s->n_listeners, err);
    if (!rc && o->socket) {
        vly_listener *l = &s->listeners[s->n_listeners];
        rc = vly_listener_open_unix(&s->loop, o->socket, o->socket_mode, l, err);
        s->n_listeners += !rc;
    }
    if (!rc && o->tcp) {
        vly_listener *l = &s->listeners[s->n_listeners];
        rc = vly_listener_open_tcp(&s->loop, o->tcp, loopback_only, l, err);
        s->n_listeners += !rc;
    }
    if (!rc && s->n_listeners == 0)
        rc = vly_fail(err, VLY_E_INVALID, "expected a socket or an address to listen on, got none");
    for (uint32_t i = 0; !rc && i < s->n_listeners; i++) {
        s->listeners[i].uv.handle.data = s;
        rc = vly_listener_start(&s->listeners[i], vly_connection_accept, err);
        if (!rc) vly_log(VLY_LOG_INFO, "serve", "listening on %s", s->listeners[i].name);
    }
    return rc;
}

/* Connections take descriptors: as many as are allowed, where the soft limit is lower. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_handles(vly_server *s, vly_error *err)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    int uv = 0;
    uv_timer_init(&s->loop, &s->sweep);
    uv_prepare_init(&s->loop, &s->before_waiting);
    uv_prepare_start(&s->before_waiting, on_before_waiting);
    s->sweep.data = s->before_waiting.data = s;
    for (int i = 0; !uv && i < 2; i++) {
        uv = uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        if (!uv) uv = uv_signal_start(&s->signals[i], on_signal, numbers[i]);
    }
    if (!uv) return 0;
    return vly_fail(err, VLY_E_IO, "signals: %s", uv_strerror(uv));
}

/* Loading calls this often; in between it does not return to the loop. */
static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    vly_server *s = arg;
    s->loaded_bytes = done;
    s->total_bytes = total;
    /* The second turn sends what the first one answered. */
    if (s->state == VLY_SERVER_LOADING) uv_run(&s->loop, UV_RUN_NOWAIT);
    if (s->state == VLY_SERVER_LOADING) uv_run(&s->loop, UV_RUN_NOWAIT);
    return s->state != VLY_SERVER_LOADING;
}

/* Do texts begin with a space that tokens have and they have not? */
static bool drops_space(const vly_engine *engine)
{
    uint32_t *ids = NULL;
    size_t n = 0, len = 0;
    if (vly_engine_tokenize(engine, "a", 1, false, false, &ids, &n, NULL) || n == 0) return false;
    const char *bytes = vly_engine_token_bytes(engine, ids[0], &len);
    bool drops = len > 0 && bytes[0] == ' ';
    free(ids);
    return drops;
}

static int load(vly_server *s, const vly_engine_options *engine, vly_error *err)
{
    vly_engine_options options = *engine;
    options.loop = &s->loop;
    options.progress = on_progress;
    options.progress_arg = s;
    options.warm_up = true;
    s->start_ns = vly_clock_ns();
    int rc = on_progress(s, 0, 0) ? 0 : vly_engine_create(&options, &s->engine, err);
    if (s->state == VLY_SERVER_STOPPED) return 0;
    if (rc) return rc;
    const vly_engine_info *info = vly_engine_get_info(s->engine);
    s->n_parallel = options.n_parallel ? options.n_parallel : 1;
    s->n_queued = options.n_queued;
    s->drops_space = drops_space(s->engine);
    s->state = VLY_SERVER_READY;
    vly_log(VLY_LOG_INFO, "serve", "ready: %s, %s, loaded in %.2f s", info->target_name,
            info->draft_name ? info->draft_name : "no draft",
            (double)(vly_clock_ns() - s->start_ns) * 1e-9);
    vly_notify_systemd("READY=1");
    return 0;
}

static void destroy(vly_server *s)
{
    stop(s);
    /* What is cancelled is told to its end. */
    uv_run(&s->loop, UV_RUN_DEFAULT);
    vly_engine_destroy(s->engine);
    vly_completions_free(s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    vly_text_free(&s->keys);
    free(s);
}

int vly_serve(const vly_serve_options *options, const vly_engine_options *engine, vly_error *err)
{
    vly_server *s = calloc(1, sizeof *s);
    if (!s) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the server");
    s->options = options;
    s->started_s = (int64_t)time(NULL);
    /* Ids of two servers should differ; where there is no randomness they may not. */
    (void)!getrandom(&s->id_prefix, sizeof s->id_prefix, GRND_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    int uv = uv_loop_init(&s->loop);
    if (uv) {
        free(s);
        return vly_fail(err, VLY_E_IO, "event loop: %s", uv_strerror(uv));
    }
    int rc = open_handles(s, err);
    if (!rc && options->api_key_file) rc = read_keys(s, options->api_key_file, err);
    if (!rc) rc = open_listeners(s, err);
    if (!rc) rc = load(s, engine, err);
    if (!rc && s->state == VLY_SERVER_READY) uv_run(&s->loop, UV_RUN_DEFAULT);
    if (!rc && s->failure.code) rc = vly_fail(err, s->failure.code, "%s", s->failure.message);
    destroy(s);
    return rc;
}
