/* Loads: requests that are sent as they fall due, and what came of each. */
#include "bench/serve.h"

#include "base/clock.h"
#include "serve/writer.h"
#include "text/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define WARM_UP_TOKENS  4
#define WARM_UP_AT_ONCE 4 /* before a load that has a rate */

typedef struct {
    vly_load_source *source;
    const vly_load *load;
    vly_load_result *out;
    uint32_t n_started, n_active; /* of the load's requests */
    double next_due_s;            /* since the start; of a load with a rate */
    uv_timer_t arrivals;
    bool reading_long;
    bool no_memory;
} run;

typedef enum { COUNTED, WARM_UP, LONG } purpose;

/* A request under way. */
typedef struct {
    run *run;
    purpose why;
    vly_load_sample sample;
    size_t index;  /* COUNTED: of the sample in the result */
    vly_text line; /* of the stream, unfinished */
    bool done;     /* the stream came to its end */
    char failure[192];
} exchange;

static void push(run *r, vly_load_values *values, double value)
{
    if (values->n == values->cap) {
        size_t cap = values->cap ? 2 * values->cap : 1024;
        double *data = realloc(values->data, cap * sizeof *data);
        if (!data) {
            r->no_memory = true;
            return;
        }
        values->data = data;
        values->cap = cap;
    }
    values->data[values->n++] = value;
}

/* ---- chance ---- */

/* 64 bits that depend on both numbers alone, so that every run sends the same requests. */
static uint64_t random_bits(uint64_t a, uint64_t b)
{
    const uint64_t both[2] = {a, b};
    return XXH3_64bits(both, sizeof both);
}

/* In [0, 1). */
static double random_part(uint64_t a, uint64_t b)
{
    return (double)(random_bits(a, b) >> 11) * 0x1p-53;
}

static uint32_t pick(vly_range range, uint64_t a, uint64_t b)
{
    return range.min + (uint32_t)(random_bits(a, b) % (range.max - range.min + 1u));
}

enum { PROMPT_LENGTH, OUTPUT_LENGTH, PREFIX, PRIORITY, ARRIVAL, START, TOKENS };
#define PREFIX_PROMPT UINT64_MAX /* the prompt whose beginning others share */

/* ---- requests ---- */

/* Appends tokens `from` to `to` of prompt number `prompt`. */
static void write_tokens(const vly_load_source *s, uint64_t prompt, uint32_t from, uint32_t to,
                         vly_writer *out)
{
    uint32_t margin = s->n_vocab / 8; /* control tokens and bytes come first or last */
    uint64_t start = random_bits(prompt, START);
    for (uint32_t i = from; i < to; i++) {
        uint32_t id =
            s->text.len
                ? s->text.data[(start + i) % s->text.len]
                : margin + (uint32_t)(random_bits(prompt, TOKENS + i) % (s->n_vocab - 2 * margin));
        vly_writer_format(out, i ? ",%" PRIu32 : "%" PRIu32, id);
    }
}

static int pick_priority(const vly_serve_bench *o, uint64_t number)
{
    uint64_t all = (uint64_t)o->weights[0] + o->weights[1] + o->weights[2];
    uint64_t at = random_bits(number, PRIORITY) % all;
    return at < o->weights[0] ? -1 : at < (uint64_t)o->weights[0] + o->weights[1] ? 0 : 1;
}

/* The body of the next request, and what is known of it to *sample. */
static void write_body(run *r, purpose why, vly_load_sample *sample, vly_writer *out)
{
    static const char *const priorities[] = {"low", "normal", "high"};
    vly_load_source *s = r->source;
    const vly_serve_bench *o = s->options;
    uint64_t number = s->n_prompts++;
    vly_range one = {1, 1}, few = {WARM_UP_TOKENS, WARM_UP_TOKENS};
    vly_range whole = {r->load->long_prompt, r->load->long_prompt};
    vly_range output = why == COUNTED ? r->load->output : why == LONG ? one : few;
    uint32_t n = pick(why == LONG ? whole : r->load->prompt, number, PROMPT_LENGTH);
    bool shares = why == COUNTED && 100 * random_part(number, PREFIX) < (double)o->prefix_percent;
    uint32_t n_shared = !shares ? 0 : o->prefix_tokens < n ? o->prefix_tokens : n;
    sample->priority = pick_priority(o, number);
    vly_writer_text(out, "{");
    vly_writer_put(out, s->fields.data ? s->fields.data : "", s->fields.len);
    vly_writer_text(out, "\"prompt\":[");
    write_tokens(s, PREFIX_PROMPT, 0, n_shared, out);
    write_tokens(s, number, n_shared, n, out);
    vly_writer_format(out,
                      "],\"max_tokens\":%u,\"ignore_eos\":true,\"temperature\":%g,\"seed\":%" PRIu64
                      ",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                      "\"priority\":\"%s\"}",
                      pick(output, number, OUTPUT_LENGTH), (double)o->temperature, number,
                      priorities[sample->priority + 1]);
}

/* ---- answers ---- */

static uint32_t count_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    double value = cJSON_IsNumber(item) ? item->valuedouble : 0;
    return value > 0 && value < 1e9 ? (uint32_t)value : 0;
}

/* The usage, or an error. */
static void take_object(exchange *x, const char *data, size_t n)
{
    cJSON *json = cJSON_ParseWithLength(data, n);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(json, "usage");
    const cJSON *details = cJSON_GetObjectItemCaseSensitive(usage, "prompt_tokens_details");
    if (error) {
        const char *code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "code"));
        snprintf(x->failure, sizeof x->failure, "in the stream: %s", code ? code : "error");
    }
    if (cJSON_IsObject(usage)) {
        x->sample.n_prompt = count_of(usage, "prompt_tokens");
        x->sample.n_tokens = count_of(usage, "completion_tokens");
        x->sample.n_cached = count_of(details, "cached_tokens");
    }
    cJSON_Delete(json);
}

static bool contains(const char *data, size_t n, const char *needle)
{
    return memmem(data, n, needle, strlen(needle)) != NULL;
}

/* A line of the stream. Objects are only parsed where they may tell more than text. */
static void take_line(exchange *x, const char *data, size_t n)
{
    static const char event[] = "data: ";
    vly_load_sample *s = &x->sample;
    if (n < sizeof event - 1 || memcmp(data, event, sizeof event - 1) != 0) return;
    data += sizeof event - 1;
    n -= sizeof event - 1;
    if (n >= 6 && memcmp(data, "[DONE]", 6) == 0) {
        x->done = true;
    } else if (contains(data, n, "\"usage\":{") || contains(data, n, "\"error\":")) {
        take_object(x, data, n);
    } else if (contains(data, n, "\"finish_reason\":null")) {
        uint64_t now = vly_clock_ns();
        if (s->first_ns == 0)
            s->first_ns = now;
        else if (x->why == COUNTED)
            push(x->run, &x->run->out->gaps_ms, (double)(now - s->last_ns) * 1e-6);
        s->last_ns = now;
    }
}

static void on_body(void *arg, const char *data, size_t n)
{
    exchange *x = arg;
    while (n > 0) {
        const char *end = memchr(data, '\n', n);
        size_t len = end ? (size_t)(end - data) : n;
        if (end && x->line.len == 0) {
            take_line(x, data, len);
        } else {
            if (vly_text_append(&x->line, data, len)) x->run->no_memory = true;
            if (end && x->line.data) take_line(x, x->line.data, x->line.len);
            if (end) x->line.len = 0;
        }
        data += len + (end != NULL);
        n -= len + (end != NULL);
    }
}

/* ---- beginning and ending ---- */

static void count_failure(vly_load_result *out, const char *what)
{
    uint32_t i = 0;
    while (i < out->n_failures && strcmp(out->failures[i].what, what) != 0) i++;
    if (i == VLY_MAX_FAILURES) i--;
    if (i == out->n_failures) {
        out->n_failures++;
        snprintf(out->failures[i].what, sizeof out->failures[i].what, "%s",
                 i == VLY_MAX_FAILURES - 1 ? "others" : what);
    }
    out->failures[i].n++;
}

static void on_end(void *arg, int status, const char *failure);

/* Sends a request; false where that failed at once, which counts as an answer. */
static bool start(run *r, purpose why)
{
    exchange *x = calloc(1, sizeof *x);
    vly_writer body = {0};
    vly_error err;
    bool sent = false;
    if (x) {
        x->run = r;
        x->why = why;
        x->index = r->n_started;
        x->sample.due_ns = vly_clock_ns();
        if (why == COUNTED && r->load->n_clients == 0)
            x->sample.due_ns = r->out->start_ns + (uint64_t)(r->next_due_s * 1e9);
        write_body(r, why, &x->sample, &body);
    }
    if (!x || body.failed) {
        r->no_memory = true;
    } else {
        vly_http_answer answer = {on_body, on_end, x};
        int rc = vly_http_client_send(r->source->client, "/v1/completions",
                                      (vly_bytes){body.text.data, body.text.len},
                                      r->source->options->timeout_s, &answer, &err);
        sent = rc == 0;
        if (rc) count_failure(r->out, err.message);
    }
    r->n_started += why != LONG;
    r->n_active += why != LONG && sent;
    if (why == LONG) r->reading_long = sent;
    if (!sent) free(x);
    vly_text_free(&body.text);
    return sent;
}

/* No more requests are to be sent. */
static bool has_sent_all(const run *r)
{
    return r->n_started == r->load->n_requests || r->no_memory || vly_bench_interrupted();
}

/* Keeps as many requests under way as the load has clients. */
static void go_on(run *r)
{
    while (r->n_active < r->load->n_clients && !has_sent_all(r)) start(r, COUNTED);
}

static bool is_over(const run *r)
{
    return r->n_active == 0 && has_sent_all(r);
}

/* An answer that is no stream: its status, and what is wrong with the request, or the error's code,
 * which many answers share. */
static void describe_refusal(exchange *x, int status)
{
    cJSON *json = cJSON_ParseWithLength(x->line.data ? x->line.data : "", x->line.len);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
    const char *field = status == 400 ? "message" : "code";
    const char *why = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, field));
    snprintf(x->failure, sizeof x->failure, "status %d%s%s", status, why ? ": " : "",
             why ? why : "");
    cJSON_Delete(json);
}

static void end_counted(exchange *x, const char *failure)
{
    run *r = x->run;
    x->sample.end_ns = r->out->end_ns = vly_clock_ns();
    x->sample.ok = !failure;
    r->out->samples[x->index] = x->sample;
    if (failure) count_failure(r->out, failure);
    r->n_active--;
    go_on(r);
}

static void on_end(void *arg, int status, const char *failure)
{
    exchange *x = arg;
    run *r = x->run;
    if (!failure && status != 200)
        describe_refusal(x, status);
    else if (!failure && !x->done && !x->failure[0])
        snprintf(x->failure, sizeof x->failure, "a stream without its end");
    if (!failure && x->failure[0]) failure = x->failure;
    if (x->why == COUNTED) {
        end_counted(x, failure);
    } else if (x->why == WARM_UP) {
        r->n_active--;
    } else {
        r->reading_long = false;
        if (!failure)
            push(r, &r->out->long_ms, (double)(x->sample.first_ns - x->sample.due_ns) * 1e-6);
        if (!failure && !is_over(r)) start(r, LONG);
    }
    vly_text_free(&x->line);
    free(x);
}

/* Poisson arrivals: the time between two has an exponential distribution. */
static void on_arrival(uv_timer_t *timer)
{
    run *r = timer->data;
    double now_s;
    do {
        now_s = (double)(vly_clock_ns() - r->out->start_ns) * 1e-9;
        if (r->next_due_s > now_s) break;
        start(r, COUNTED);
        double part = random_part(r->source->n_prompts, ARRIVAL);
        r->next_due_s += -log1p(-part) / r->load->rate;
    } while (!has_sent_all(r));
    if (has_sent_all(r)) return;
    uv_update_time(timer->loop);
    uv_timer_start(timer, on_arrival, (uint64_t)ceil(1000 * (r->next_due_s - now_s)), 0);
}

/* ---- what the server tells ---- */

static double metric(const vly_text *text, const char *name)
{
    char wanted[96];
    snprintf(wanted, sizeof wanted, "\nvolley:%s ", name);
    const char *at = text->data ? strstr(text->data, wanted) : NULL;
    return at ? strtod(at + strlen(wanted), NULL) : NAN;
}

static vly_server_counters read_counters(run *r)
{
    vly_text text = {0};
    vly_error unimportant;
    if (vly_http_client_fetch(r->source->client, "/metrics", (vly_bytes){NULL, 0}, 60, &text,
                              &unimportant))
        text.len = 0;
    if (text.data) text.data[text.len] = '\0';
    vly_server_counters c = {.serve_s = metric(&text, "serve_time_seconds_total"),
                             .cpu_s = metric(&text, "loop_cpu_seconds_total"),
                             .step_s = metric(&text, "step_time_seconds_sum"),
                             .steps = metric(&text, "step_time_seconds_count"),
                             .tokens = metric(&text, "generation_tokens_total"),
                             .drafted = metric(&text, "spec_decode_num_draft_tokens_total"),
                             .accepted = metric(&text, "spec_decode_num_accepted_tokens_total")};
    vly_text_free(&text);
    return c;
}

static vly_server_counters difference(vly_server_counters a, vly_server_counters b)
{
    return (vly_server_counters){a.serve_s - b.serve_s,  a.cpu_s - b.cpu_s,   a.step_s - b.step_s,
                                 a.steps - b.steps,      a.tokens - b.tokens, a.drafted - b.drafted,
                                 a.accepted - b.accepted};
}

/* ---- the interface ---- */

/* As many requests at once as the load will have, so that nothing is run for the first time in it.
 */
static void warm_up(run *r)
{
    uint32_t n = r->load->n_clients ? r->load->n_clients : WARM_UP_AT_ONCE;
    for (uint32_t i = 0; i < n; i++) start(r, WARM_UP);
    while (r->n_active > 0) uv_run(r->source->loop, UV_RUN_ONCE);
    r->n_started = r->out->n_failures = 0;
    memset(r->out->failures, 0, sizeof r->out->failures);
}

int vly_load_run(vly_load_source *source, const vly_load *load, vly_load_result *out,
                 vly_error *err)
{
    run r = {.source = source, .load = load, .out = out};
    *out = (vly_load_result){.load = *load};
    out->samples = calloc(load->n_requests, sizeof *out->samples);
    if (!out->samples) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a load");
    warm_up(&r);
    vly_server_counters before = read_counters(&r);
    uv_timer_init(source->loop, &r.arrivals);
    r.arrivals.data = &r;
    if (load->long_prompt) start(&r, LONG);
    out->start_ns = out->end_ns = vly_clock_ns();
    if (load->n_clients)
        go_on(&r);
    else
        on_arrival(&r.arrivals);
    while (!is_over(&r) || r.reading_long) uv_run(source->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&r.arrivals, NULL);
    uv_run(source->loop, UV_RUN_NOWAIT); /* it is on the stack */
    out->counters = difference(read_counters(&r), before);
    vly_sort(out->gaps_ms.data, out->gaps_ms.n);
    vly_sort(out->long_ms.data, out->long_ms.n);
    if (vly_bench_interrupted()) return vly_fail(err, VLY_E_CANCELLED, "interrupted");
    return r.no_memory ? vly_fail(err, VLY_E_HOST_MEMORY, "no memory for a load") : 0;
}

void vly_load_result_deinit(vly_load_result *result)
{
    free(result->samples);
    free(result->gaps_ms.data);
    free(result->long_ms.data);
}
