/* What loads came to: tables by load. */
#include "bench/serve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- values of samples ---- */

typedef double value_fn(const vly_load_sample *sample);

static double first_ms(const vly_load_sample *s)
{
    return s->first_ns ? (double)(s->first_ns - s->due_ns) * 1e-6 : NAN;
}

/* Between two tokens of an answer, on average. */
static double token_ms(const vly_load_sample *s)
{
    return s->n_tokens > 1 ? (double)(s->last_ns - s->first_ns) * 1e-6 / (s->n_tokens - 1) : NAN;
}

static double request_ms(const vly_load_sample *s)
{
    return (double)(s->end_ns - s->due_ns) * 1e-6;
}

#define ALL_PRIORITIES 2

/* The values of the requests that went well, ascending; *n of them. NULL without memory. */
static double *values_of(const vly_load_result *r, value_fn *value, int priority, size_t *n)
{
    double *data = malloc((r->load.n_requests + 1) * sizeof *data);
    *n = 0;
    for (uint32_t i = 0; data && i < r->load.n_requests; i++) {
        const vly_load_sample *s = &r->samples[i];
        if (!s->ok || (priority != ALL_PRIORITIES && s->priority != priority)) continue;
        double x = value(s);
        if (!isnan(x)) data[(*n)++] = x;
    }
    if (data) vly_sort(data, *n);
    return data;
}

/* p50, p95, p99 and the most. */
static void quantiles(const double *sorted, size_t n, double out[4])
{
    static const double q[] = {0.5, 0.95, 0.99, 1};
    for (int i = 0; i < 4; i++) out[i] = sorted ? vly_quantile(sorted, n, q[i]) : NAN;
}

static void sample_quantiles(const vly_load_result *r, value_fn *value, int priority, double out[4])
{
    size_t n;
    double *data = values_of(r, value, priority, &n);
    quantiles(data, n, out);
    free(data);
}

typedef struct {
    uint64_t n_ok, n_prompt, n_cached, n_tokens;
} sums;

static sums add_up(const vly_load_result *r)
{
    sums all = {0};
    for (uint32_t i = 0; i < r->load.n_requests; i++) {
        const vly_load_sample *s = &r->samples[i];
        if (!s->ok) continue;
        all.n_ok++;
        all.n_prompt += s->n_prompt;
        all.n_cached += s->n_cached;
        all.n_tokens += s->n_tokens;
    }
    return all;
}

static double seconds(const vly_load_result *r)
{
    return (double)(r->end_ns - r->start_ns) * 1e-9;
}

/* ---- tables ---- */

/* "16 clients", "2.5 per s". */
static void name_load(const vly_load *load, char *out, size_t n)
{
    if (load->n_clients)
        snprintf(out, n, "%u client%s", load->n_clients, vly_plural(load->n_clients));
    else
        snprintf(out, n, "%g per s", load->rate);
}

static void add_throughput(const vly_load_result *results, size_t n, vly_report *report)
{
    static const vly_column columns[] = {
        {"requests", 0},       {"failed", 0},         {"tokens", 0},         {"seconds", 2},
        {"requests_per_s", 2}, {"tokens_per_s", 1},   {"against_first", 2},  {"prompt_per_s", 1},
        {"cached_percent", 1}, {"request_p50_ms", 1}, {"request_p99_ms", 1},
    };
    double first = NAN;
    vly_report_table(report, "rows", "load", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        const vly_load_result *r = &results[i];
        char label[48];
        double whole[4], s = seconds(r);
        sums all = add_up(r);
        double rate = (double)all.n_tokens / s;
        if (i == 0) first = rate;
        sample_quantiles(r, request_ms, ALL_PRIORITIES, whole);
        const double values[] = {r->load.n_requests,
                                 (double)(r->load.n_requests - all.n_ok),
                                 (double)all.n_tokens,
                                 s,
                                 (double)all.n_ok / s,
                                 rate,
                                 rate / first,
                                 (double)all.n_prompt / s,
                                 100 * (double)all.n_cached / (double)all.n_prompt,
                                 whole[0],
                                 whole[2]};
        name_load(&r->load, label, sizeof label);
        vly_report_row(report, label, values);
    }
}

static void add_latencies(const vly_load_result *results, size_t n, vly_report *report)
{
    static const vly_column columns[] = {
        {"first_p50_ms", 2}, {"first_p95_ms", 2}, {"first_p99_ms", 2}, {"first_max_ms", 2},
        {"inter_p50_ms", 3}, {"inter_p95_ms", 3}, {"inter_p99_ms", 3}, {"inter_max_ms", 3},
        {"token_p50_ms", 3}, {"token_p99_ms", 3},
    };
    vly_report_table(report, "latency", "load", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        const vly_load_result *r = &results[i];
        char label[48];
        double values[12];
        sample_quantiles(r, first_ms, ALL_PRIORITIES, values);
        quantiles(r->gaps_ms.data, r->gaps_ms.n, values + 4);
        sample_quantiles(r, token_ms, ALL_PRIORITIES, values + 8);
        values[9] = values[10];
        name_load(&r->load, label, sizeof label);
        vly_report_row(report, label, values);
    }
}

static void add_priorities(const vly_serve_bench *o, const vly_load_result *results, size_t n,
                           vly_report *report)
{
    static const char *const names[] = {"low", "normal", "high"};
    static const vly_column columns[] = {
        {"first_p50_ms", 2}, {"first_p95_ms", 2}, {"first_p99_ms", 2}, {"first_max_ms", 2},
        {"token_p50_ms", 3}, {"token_p95_ms", 3}, {"token_p99_ms", 3}, {"token_max_ms", 3},
    };
    if ((o->weights[0] > 0) + (o->weights[1] > 0) + (o->weights[2] > 0) < 2) return;
    vly_report_table(report, "priorities", "load", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < n; i++)
        for (int priority = 1; priority >= -1; priority--) {
            char load[48], label[64];
            double values[8];
            sample_quantiles(&results[i], first_ms, priority, values);
            sample_quantiles(&results[i], token_ms, priority, values + 4);
            name_load(&results[i].load, load, sizeof load);
            snprintf(label, sizeof label, "%s, %s", load, names[priority + 1]);
            vly_report_row(report, label, values);
        }
}

static void add_server(const vly_load_result *results, size_t n, vly_report *report)
{
    static const vly_column columns[] = {
        {"step_ms", 3}, {"tokens_per_step", 2}, {"device_percent", 1},   {"outside_us", 1},
        {"host_us", 1}, {"answer_us", 1},       {"accepted_percent", 1},
    };
    vly_report_table(report, "server", "load", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        const vly_server_counters *c = &results[i].counters;
        char label[48];
        double s = seconds(&results[i]);
        const double values[] = {1000 * c->step_s / c->steps,
                                 c->tokens / c->steps,
                                 100 * c->step_s / s,
                                 1e6 * (s - c->step_s) / c->tokens,
                                 1e6 * c->cpu_s / c->tokens,
                                 1e6 * c->serve_s / c->tokens,
                                 c->drafted > 0 ? 100 * c->accepted / c->drafted : NAN};
        name_load(&results[i].load, label, sizeof label);
        vly_report_row(report, label, values);
    }
}

static void add_failures(const vly_load_result *results, size_t n, vly_report *report)
{
    static const vly_column columns[] = {{"requests", 0}};
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++) all += results[i].n_failures;
    if (all == 0) return;
    vly_report_table(report, "failures", "load", columns, 1);
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < results[i].n_failures; k++) {
            char load[48], label[100];
            double value = results[i].failures[k].n;
            name_load(&results[i].load, load, sizeof load);
            snprintf(label, sizeof label, "%s: %s", load, results[i].failures[k].what);
            vly_report_row(report, label, &value);
        }
}

/* How long short prompts wait while a long one is read, in the time that a part of it takes. */
static void add_long(const vly_load_source *source, const vly_load_result *results, size_t n,
                     double alone_ms, vly_report *report)
{
    static const vly_column columns[] = {
        {"long_prompts", 0},     {"long_p50_ms", 1},      {"chunk_ms", 3},
        {"first_p50_chunks", 2}, {"first_max_chunks", 2}, {"inter_p50_chunks", 2},
        {"inter_max_chunks", 2},
    };
    uint32_t tokens = source->options->long_prompt;
    if (tokens == 0) return;
    double chunk_ms = alone_ms / ceil((double)tokens / VLY_MAX_CHUNK);
    vly_report_number(report, "long_prompt", tokens, 0);
    vly_report_number(report, "long_alone_ms", alone_ms, 1);
    vly_report_table(report, "long", "load", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        char label[48];
        double first[4], gaps[4], whole[4];
        sample_quantiles(&results[i], first_ms, ALL_PRIORITIES, first);
        quantiles(results[i].gaps_ms.data, results[i].gaps_ms.n, gaps);
        quantiles(results[i].long_ms.data, results[i].long_ms.n, whole);
        const double values[] = {(double)results[i].long_ms.n,
                                 whole[0],
                                 chunk_ms,
                                 first[0] / chunk_ms,
                                 first[3] / chunk_ms,
                                 gaps[0] / chunk_ms,
                                 gaps[3] / chunk_ms};
        name_load(&results[i].load, label, sizeof label);
        vly_report_row(report, label, values);
    }
    vly_report_note(report,
                    "long: while prompts of %u tokens are read one after the other; chunk_ms: such "
                    "a prompt alone, by its parts of %d tokens; the other figures are times of the "
                    "short requests in these",
                    tokens, VLY_MAX_CHUNK);
}

static void name_range(vly_range range, char *out, size_t n)
{
    snprintf(out, n, range.min < range.max ? "%u:%u" : "%u", range.min, range.max);
}

void vly_serve_report(const vly_load_source *source, const vly_load_result *results, size_t n,
                      double alone_ms, vly_report *report)
{
    const vly_serve_bench *o = source->options;
    char range[32];
    vly_report_fact(report, "volley", VLY_VERSION);
    if (source->device[0]) vly_report_fact(report, "device", source->device);
    if (source->model[0]) vly_report_fact(report, "model", source->model);
    if (source->draft[0]) vly_report_fact(report, "draft", source->draft);
    name_range(o->prompt, range, sizeof range);
    vly_report_fact(report, "prompt_tokens", range);
    name_range(o->output, range, sizeof range);
    vly_report_fact(report, "output_tokens", range);
    if (o->prefix_percent > 0) {
        vly_report_number(report, "prefix_tokens", o->prefix_tokens, 0);
        vly_report_number(report, "prefix_percent", (double)o->prefix_percent, 1);
    }
    add_throughput(results, n, report);
    add_latencies(results, n, report);
    add_priorities(o, results, n, report);
    add_long(source, results, n, alone_ms, report);
    add_server(results, n, report);
    add_failures(results, n, report);
    vly_report_note(report, "first: from when a request was due to its first token; inter: between "
                            "the chunks of a stream, each of one block; token: between two tokens, "
                            "on average over an answer");
    vly_report_note(report,
                    "server: step_ms: from a step's submission to its end; for each token "
                    "outside_us: time without a step under way, host_us: processor time of the "
                    "server's loop, answer_us: time to write and send answers");
}
