/* A completion: a sequence of the engine's, and the connection that waits for its text. */
#include "serve/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "serve/openai_response.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct vly_completion {
    vly_server *server;
    vly_completion *previous, *next;
    vly_connection *connection; /* NULL once the client is gone */
    vly_sequence *sequence;     /* NULL once it has ended */
    vly_completion_end end;     /* why it was cancelled */
    bool begun;                 /* the stream has */
    bool paused;
    bool has_text; /* some was handed out */
    uint32_t draft_max;
    vly_openai_answer answer;
    vly_openai_logprobs logprobs;
    vly_writer event; /* of a stream; or the whole text */
    vly_request_record record;
    uint64_t start_ns, token_ns; /* of the request's last byte; of the last tokens */
};

static void destroy(vly_completion *q)
{
    *(q->previous ? &q->previous->next : &q->server->completions) = q->next;
    if (q->next) q->next->previous = q->previous;
    vly_openai_answer_deinit(&q->answer);
    vly_openai_logprobs_deinit(&q->logprobs);
    vly_text_free(&q->event.text);
    free(q);
}

void vly_completions_free(vly_server *server)
{
    while (server->completions) destroy(server->completions);
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(vly_clock_ns() - start_ns) * 1e-9;
}

/* ---- streaming ---- */

/* Sends the events that were written. */
static void send_events(vly_completion *q)
{
    vly_connection *c = q->connection;
    if (q->event.failed) {
        vly_connection_close(c);
        return;
    }
    vly_stream_send(c, q->event.text.data, q->event.text.len);
    vly_writer_clear(&q->event);
    if (q->sequence && !q->paused &&
        vly_connection_unsent(c) > q->server->options->max_buffered_bytes) {
        q->paused = true;
        vly_sequence_pause(q->sequence, true);
    }
}

void vly_completion_on_sent(vly_completion *q)
{
    if (!q->paused || !q->sequence) return;
    q->paused = false;
    vly_sequence_pause(q->sequence, false);
}

static void begin_stream(vly_completion *q)
{
    if (q->begun) return;
    q->begun = true;
    vly_stream_begin(q->connection);
    vly_openai_write_first(&q->answer, &q->event);
}

/* Hands out text, as an event or for the whole answer. Models that write a space before a word
 * begin an answer of a conversation with one, which is none of it. */
static void take_text(vly_completion *q, const char *text, size_t len)
{
    bool drop = q->answer.kind == VLY_OPENAI_CHAT && !q->has_text && len && *text == ' ';
    q->has_text |= len > 0;
    text += drop;
    len -= drop;
    if (!q->answer.stream) {
        vly_writer_put(&q->event, text, len);
        return;
    }
    begin_stream(q);
    if (len || q->logprobs.n) {
        vly_openai_write_text(&q->answer, text, len, &q->logprobs, &q->event);
        vly_openai_logprobs_clear(&q->logprobs);
    }
    send_events(q);
}

/* ---- what the engine tells ---- */

static void count_tokens(vly_completion *q, uint32_t n)
{
    vly_serve_metrics *m = &q->server->metrics;
    uint64_t now = vly_clock_ns();
    if (q->token_ns == 0) {
        q->record.first_token_ms = (double)(now - q->start_ns) * 1e-6;
        vly_histogram_add(&m->first_token, q->record.first_token_ms / 1000, 1);
    } else {
        vly_histogram_add(&m->inter_token, (double)(now - q->token_ns) * 1e-9 / n, n);
    }
    q->token_ns = now;
}

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    vly_completion *q = arg;
    uint64_t start_ns = vly_clock_ns();
    count_tokens(q, n);
    if (!q->connection) return;
    if (logprobs)
        vly_openai_logprobs_add(&q->logprobs, q->answer.kind, q->server->engine, ids, logprobs, n);
    take_text(q, text, len);
    q->server->metrics.serve_s += seconds_since(start_ns);
}

/* Answers with an error, as far as the answer has not begun; a stream that has gets it as its last
 * event. */
static void answer_error(vly_completion *q, const vly_api_error *err)
{
    vly_connection *c = q->connection;
    if (!q->begun) {
        vly_reply_error(c, err);
        return;
    }
    vly_writer_clear(&q->event);
    vly_writer_text(&q->event, "data: ");
    vly_api_error_write(err, &q->event);
    vly_writer_text(&q->event, "\n\n");
    if (!q->event.failed) vly_stream_send(c, q->event.text.data, q->event.text.len);
    vly_stream_end(c, false);
}

static void answer_whole(vly_completion *q, vly_finish finish, const vly_stats *stats)
{
    vly_writer body = {0};
    body.failed = q->event.failed;
    vly_openai_write_whole(&q->answer, q->event.text.data, q->event.text.len, &q->logprobs, finish,
                           stats, q->draft_max, &body);
    vly_reply_json(q->connection, 200, &body);
    vly_text_free(&body.text);
}

static vly_outcome outcome_of(const vly_completion *q, vly_finish finish)
{
    if (finish == VLY_FINISH_STOP) return VLY_OUTCOME_STOP;
    if (finish == VLY_FINISH_LENGTH) return VLY_OUTCOME_LENGTH;
    if (finish == VLY_FINISH_ERROR) return VLY_OUTCOME_ERROR;
    return q->end == VLY_END_TIMEOUT    ? VLY_OUTCOME_TIMEOUT
           : q->end == VLY_END_SHUTDOWN ? VLY_OUTCOME_SHUTDOWN
                                        : VLY_OUTCOME_CANCELLED;
}

static void explain(vly_outcome outcome, const vly_error *cause, vly_api_error *err)
{
    if (outcome == VLY_OUTCOME_TIMEOUT)
        vly_api_fail(err, 504, "timeout", NULL, "the answer took longer than this server allows");
    else if (outcome == VLY_OUTCOME_ERROR)
        vly_api_fail_engine(err, cause, NULL);
    else
        vly_api_fail(err, 503, "shutdown", NULL, "the server ended before the answer did");
}

static void count(vly_completion *q, vly_outcome outcome, const vly_stats *stats)
{
    vly_serve_metrics *m = &q->server->metrics;
    double seconds = seconds_since(q->start_ns);
    m->completions[outcome]++;
    vly_metrics_count(m, stats);
    vly_histogram_add(&m->duration, seconds, 1);
    m->mean_run_s += (seconds - stats->queue_ms / 1000 - m->mean_run_s) / 8;
    q->record.outcome = vly_outcome_name(outcome);
    q->record.stats = *stats;
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *cause)
{
    vly_completion *q = arg;
    vly_server *server = q->server;
    vly_outcome outcome = outcome_of(q, finish);
    q->sequence = NULL; /* it may not be spoken to any more */
    count(q, outcome, stats);
    if (finish == VLY_FINISH_ERROR && cause->code == VLY_E_DEVICE_LOST && !server->failure.code) {
        server->failure = *cause;
        vly_log(VLY_LOG_ERROR, "serve", "%s", cause->message);
        if (server->state == VLY_SERVER_READY) vly_server_drain(server);
    }
    /* Sending may find that the client is gone. */
    bool good = finish == VLY_FINISH_STOP || finish == VLY_FINISH_LENGTH;
    if (q->connection && good) take_text(q, text ? text : "", len);
    vly_connection *c = q->connection;
    if (!c) {
        q->record.status = 499; /* nobody is there to be told; the usual number for that */
        vly_log_request(server, &q->record);
    } else {
        vly_request_record *record = &c->exchange.record;
        record->outcome = q->record.outcome;
        record->stats = q->record.stats;
        record->first_token_ms = q->record.first_token_ms;
        vly_api_error err;
        if (!good) {
            explain(outcome, cause, &err);
            answer_error(q, &err);
        } else if (q->answer.stream) {
            vly_openai_write_last(&q->answer, finish, stats, q->draft_max, &q->event);
            vly_stream_send(c, q->event.text.data, q->event.text.len);
            vly_stream_end(c, !q->event.failed);
        } else {
            answer_whole(q, finish, stats);
        }
        if (c->completion == q) c->completion = NULL;
    }
    destroy(q);
    vly_server_check_drained(server);
}

void vly_completion_cancel(vly_completion *q, vly_completion_end why)
{
    if (q->end == VLY_END_NONE && q->sequence) {
        q->end = why;
        vly_sequence_cancel(q->sequence);
    }
    if (why != VLY_END_DISCONNECT) return;
    if (q->connection) q->record.n_bytes = q->connection->exchange.record.n_bytes;
    q->connection = NULL;
}

/* ---- beginning ---- */

static int random_seed(uint64_t *seed, vly_api_error *err)
{
    if (getrandom(seed, sizeof *seed, 0) == (ssize_t)sizeof *seed) return 0;
    return vly_api_fail(err, 500, NULL, NULL, "no random seed: %s", strerror(errno));
}

/* A request on its way to a sequence. */
typedef struct {
    vly_job job;
    vly_openai_kind kind;
    uint64_t start_ns;
    int rc;
    vly_api_error err;
    vly_openai_request request;
    bool has_text; /* in its prompt */
    uint32_t *ids; /* of the prompt, where that is text */
} start_job;

/* The prompt that the messages make. */
static int apply_template(const vly_server *server, vly_openai_request *request, vly_api_error *err)
{
    char *text;
    size_t len;
    vly_error why;
    if (vly_engine_apply_template(server->engine, request->messages.list, request->messages.n, true,
                                  &text, &len, &why))
        return vly_api_fail_engine(err, &why, "messages");
    int rc = vly_text_append(&request->prompt, text, len);
    free(text);
    if (rc) return vly_api_fail(err, 503, "out_of_memory", NULL, "no memory for the prompt");
    request->engine.prompt = request->prompt.data;
    request->engine.prompt_len = request->prompt.len;
    return 0;
}

/* Does the prompt have any text? */
static bool has_text(const vly_server *server, const vly_request *r)
{
    size_t len = r->prompt_tokens ? 0 : r->prompt_len;
    for (size_t i = 0; i < r->n_prompt_tokens && len == 0; i++)
        vly_engine_token_bytes(server->engine, r->prompt_tokens[i], &len);
    return len > 0;
}

/* The prompt as tokens, of which the server may take fewer than the context holds. */
static int encode_prompt(start_job *s, const char *param)
{
    const vly_server *server = s->job.server;
    vly_request *r = &s->request.engine;
    uint32_t limit = server->options->max_prompt_tokens;
    vly_error why;
    if (!r->prompt_tokens) {
        if (vly_engine_encode_prompt(server->engine, r, &s->ids, &r->n_prompt_tokens, &why))
            return vly_api_fail_engine(&s->err, &why, param);
        r->prompt_tokens = s->ids;
    }
    if (limit == 0 || r->n_prompt_tokens <= limit) return 0;
    return vly_api_fail(&s->err, 400, "context_length_exceeded", param,
                        "the prompt has %zu token%s; this server takes %u", r->n_prompt_tokens,
                        vly_plural(r->n_prompt_tokens), limit);
}

static const char *prompt_param(const start_job *s)
{
    return s->kind == VLY_OPENAI_CHAT ? "messages" : "prompt";
}

/* vly_job.work */
static void read_request(vly_job *job)
{
    start_job *s = (start_job *)job;
    const vly_server *server = job->server;
    const vly_engine_info *info = vly_engine_get_info(server->engine);
    const vly_engine_defaults *recommended = vly_engine_get_defaults(server->engine);
    vly_openai_defaults defaults = {.draft_method = server->options->draft_method,
                                    .draft_max = server->options->draft_max,
                                    .has_draft = info->draft_name != NULL,
                                    .n_vocab = info->n_vocab,
                                    .stop = recommended->stop,
                                    .n_stop = recommended->n_stop};
    vly_openai_request *q = &s->request;
    s->rc = vly_openai_parse(s->kind, job->body.data, job->body.len, &defaults, q, &s->err);
    if (!s->rc && !q->has_seed) s->rc = random_seed(&q->engine.sampling.seed, &s->err);
    if (!s->rc && s->kind == VLY_OPENAI_CHAT) s->rc = apply_template(server, q, &s->err);
    if (s->rc) return;
    s->has_text = has_text(server, &q->engine);
    s->rc = encode_prompt(s, prompt_param(s));
}

/* Begins the sequence, for which all is ready. */
static int begin(vly_completion *q, start_job *s)
{
    vly_server *server = q->server;
    vly_openai_request *request = &s->request;
    const vly_engine_info *info = vly_engine_get_info(server->engine);
    q->draft_max = request->engine.draft_max;
    q->logprobs.drops_space = server->drops_space && !s->has_text;
    q->record.stream = q->connection->exchange.record.stream = request->stream;
    vly_openai_answer_init(&q->answer, request, q->record.id, (int64_t)time(NULL),
                           info->target_name);
    request->engine.on_tokens = on_tokens;
    request->engine.on_finish = on_finish;
    request->engine.arg = q;
    vly_error why;
    if (vly_engine_start(server->engine, &request->engine, &q->sequence, NULL, NULL, &why))
        return vly_api_fail_engine(&s->err, &why, prompt_param(s));
    return 0;
}

static vly_completion *create(vly_connection *c, uint64_t start_ns)
{
    vly_completion *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->server = c->server;
    q->connection = c;
    q->record = c->exchange.record;
    q->start_ns = start_ns;
    q->next = c->server->completions;
    if (q->next) q->next->previous = q;
    c->server->completions = q;
    return q;
}

/* vly_job.done */
static void begin_completion(vly_job *job, vly_connection *c)
{
    start_job *s = (start_job *)job;
    vly_serve_metrics *metrics = &job->server->metrics;
    vly_completion *q = c && !s->rc ? create(c, s->start_ns) : NULL;
    if (!q && !s->rc)
        s->rc = vly_api_fail(&s->err, 503, "out_of_memory", NULL, "no memory for an answer");
    if (q && (s->rc = begin(q, s))) destroy(q);
    if (!c) {
        metrics->completions[VLY_OUTCOME_CANCELLED]++;
    } else if (s->rc) {
        metrics->completions[s->err.status < 429 ? VLY_OUTCOME_INVALID : VLY_OUTCOME_REFUSED]++;
        vly_reply_error(c, &s->err);
    } else {
        c->completion = q;
    }
    vly_openai_request_deinit(&s->request);
    free(s->ids);
}

static void start(vly_connection *c, vly_openai_kind kind)
{
    start_job *s = calloc(1, sizeof *s);
    if (!s) {
        vly_api_error err;
        vly_api_fail(&err, 503, "out_of_memory", NULL, "no memory for the request");
        c->server->metrics.completions[VLY_OUTCOME_REFUSED]++;
        vly_reply_error(c, &err);
        return;
    }
    s->job.work = read_request;
    s->job.done = begin_completion;
    s->kind = kind;
    s->start_ns = vly_clock_ns();
    vly_job_start(c, &s->job);
}

void vly_completion_start(vly_connection *c)
{
    start(c, VLY_OPENAI_COMPLETION);
}

void vly_chat_completion_start(vly_connection *c)
{
    start(c, VLY_OPENAI_CHAT);
}
