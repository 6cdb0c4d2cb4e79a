#include "serve/server.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Fields of a line, as JSON or as name=value. */
typedef struct {
    vly_writer out;
    bool json;
} line;

static void name(line *l, const char *key)
{
    if (l->out.text.len) vly_writer_text(&l->out, l->json ? "," : " ");
    vly_writer_format(&l->out, l->json ? "\"%s\":" : "%s=", key);
}

static void add_text(line *l, const char *key, const char *value)
{
    name(l, key);
    /* What comes from clients could otherwise pass for a field or a line of its own. */
    bool plain = !l->json && value[0] &&
                 !value[strspn(value, "abcdefghijklmnopqrstuvwxyz"
                                      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789-_./:")];
    if (plain)
        vly_writer_text(&l->out, value);
    else
        vly_writer_bytes(&l->out, value, strlen(value));
}

static void add_count(line *l, const char *key, uint64_t value)
{
    name(l, key);
    vly_writer_format(&l->out, "%" PRIu64, value);
}

static void add_real(line *l, const char *key, double value, int decimals)
{
    name(l, key);
    vly_writer_real(&l->out, value, decimals);
}

static void add_peer(line *l, const vly_peer *peer)
{
    if (peer->is_unix) {
        name(l, "uid");
        vly_writer_format(&l->out, "%" PRId64, peer->uid);
        name(l, "pid");
        vly_writer_format(&l->out, "%" PRId64, peer->pid);
    } else {
        add_text(l, "address", peer->address);
    }
}

static void add_completion(line *l, const vly_request_record *r)
{
    const vly_stats *s = &r->stats;
    name(l, "stream");
    vly_writer_text(&l->out, r->stream ? "true" : "false");
    add_count(l, "prompt_tokens", s->prompt_tokens);
    add_count(l, "cached_tokens", s->n_cached_tokens);
    add_count(l, "completion_tokens", s->generated_tokens);
    add_real(l, "queue_ms", s->queue_ms, 3);
    add_real(l, "prompt_ms", s->prompt_ms, 3);
    add_real(l, "first_token_ms", r->first_token_ms, 3);
    add_real(l, "generate_ms", s->generate_ms, 3);
    add_count(l, "drafted", s->drafted);
    add_count(l, "accepted", s->accepted);
    add_real(l, "acceptance_rate", s->drafted ? (double)s->accepted / s->drafted : 0, 4);
}

void vly_log_request(const vly_server *server, const vly_request_record *r)
{
    line l = {.json = server->options->log_json};
    add_text(&l, "time", vly_clock_utc().text);
    add_text(&l, "level", "info");
    add_text(&l, "subsystem", "serve");
    add_text(&l, "event", "request");
    add_text(&l, "id", r->id);
    add_peer(&l, &r->peer);
    add_text(&l, "method", r->method);
    add_text(&l, "path", r->path);
    add_count(&l, "status", (uint64_t)r->status);
    add_text(&l, "outcome", r->outcome ? r->outcome : r->status < 400 ? "ok" : "error");
    if (r->outcome) add_completion(&l, r);
    add_count(&l, "bytes", r->n_bytes);
    add_real(&l, "total_ms", (double)(vly_clock_ns() - r->start_ns) * 1e-6, 3);
    if (!l.out.failed) fprintf(stderr, l.json ? "{%s}\n" : "%s\n", l.out.text.data);
    vly_text_free(&l.out.text);
}
