#include "serve/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

const char *vly_outcome_name(vly_outcome outcome)
{
    static const char *const names[VLY_N_OUTCOMES] = {"stop",     "length", "cancelled", "timeout",
                                                      "shutdown", "error",  "invalid",   "refused"};
    return names[outcome];
}

/* ---- counting ---- */

#define FIRST_BOUND_S 1e-4

void vly_histogram_add(vly_histogram *h, double seconds, uint64_t n)
{
    int i = 0;
    for (double bound = FIRST_BOUND_S; i < VLY_HISTOGRAM_BUCKETS && seconds > bound; i++)
        bound *= 2;
    h->n_in[i] += n;
    h->n += n;
    h->sum_s += seconds * (double)n;
}

void vly_metrics_count(vly_serve_metrics *m, const vly_stats *s)
{
    m->prompt_tokens += s->prompt_tokens;
    m->generated_tokens += s->generated_tokens;
    m->drafts += s->drafted_by_position[0];
    m->drafted += s->drafted;
    m->accepted += s->accepted;
    for (int i = 0; i < VLY_MAX_DRAFT; i++)
        m->accepted_by_position[i] += s->accepted_by_position[i];
    m->lost_to_pick += s->lost_to_pick;
    m->lost_unmapped += s->lost_unmapped;
    m->lost_split += s->lost_split;
    m->lost_to_front += s->lost_to_front;
    m->lost_to_end += s->lost_to_end;
}

/* ---- writing ---- */

/* Begins a metric; its samples follow. All names begin with "volley:". */
static void head(vly_writer *out, const char *name, const char *type, const char *help)
{
    vly_writer_format(out, "# HELP volley:%s %s\n# TYPE volley:%s %s\n", name, help, name, type);
}

static void sample(vly_writer *out, const char *name, const char *labels, double value)
{
    /* 17 digits tell every double apart, and so count exactly up to 2^53. */
    vly_writer_format(out, "volley:%s%s %.17g\n", name, labels, value);
}

static void counter(vly_writer *out, const char *name, double value, const char *help)
{
    head(out, name, "counter", help);
    sample(out, name, "", value);
}

static void gauge(vly_writer *out, const char *name, double value, const char *help)
{
    head(out, name, "gauge", help);
    sample(out, name, "", value);
}

static void histogram(vly_writer *out, const char *name, const vly_histogram *h, const char *help)
{
    head(out, name, "histogram", help);
    uint64_t below = 0;
    double bound = FIRST_BOUND_S;
    for (int i = 0; i < VLY_HISTOGRAM_BUCKETS; i++, bound *= 2) {
        below += h->n_in[i];
        vly_writer_format(out, "volley:%s_bucket{le=\"%.6g\"} %" PRIu64 "\n", name, bound, below);
    }
    vly_writer_format(out, "volley:%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->n);
    vly_writer_format(out, "volley:%s_sum %.9g\nvolley:%s_count %" PRIu64 "\n", name, h->sum_s,
                      name, h->n);
}

/* The names that llama.cpp and vLLM share, but for their prefix. */
static void write_speculation(const vly_serve_metrics *m, vly_writer *out)
{
    counter(out, "spec_decode_num_drafts_total", (double)m->drafts, "Blocks that drafted tokens.");
    counter(out, "spec_decode_num_draft_tokens_total", (double)m->drafted, "Drafted tokens.");
    counter(out, "spec_decode_num_accepted_tokens_total", (double)m->accepted,
            "Drafted tokens that were accepted.");
    head(out, "spec_decode_num_accepted_tokens_per_pos_total", "counter",
         "Accepted tokens by their position in the draft.");
    for (int i = 0; i < VLY_MAX_DRAFT; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "{position=\"%d\"}", i);
        sample(out, "spec_decode_num_accepted_tokens_per_pos_total", labels,
               (double)m->accepted_by_position[i]);
    }
    head(out, "draft_tokens_lost_total", "counter",
         "Drafted tokens that were not accepted: the target picked another one, one that the draft "
         "does not have, or the same text cut into other tokens; they came behind such a one, or "
         "behind the end of the text.");
    sample(out, "draft_tokens_lost_total", "{reason=\"pick\"}", (double)m->lost_to_pick);
    sample(out, "draft_tokens_lost_total", "{reason=\"unmapped\"}", (double)m->lost_unmapped);
    sample(out, "draft_tokens_lost_total", "{reason=\"split\"}", (double)m->lost_split);
    sample(out, "draft_tokens_lost_total", "{reason=\"front\"}", (double)m->lost_to_front);
    sample(out, "draft_tokens_lost_total", "{reason=\"end\"}", (double)m->lost_to_end);
}

static void write_pages(vly_writer *out, const char *model, const vly_page_counts *pages)
{
    const struct {
        const char *state;
        uint32_t n;
    } counts[] = {{"used", pages->used},
                  {"shared", pages->shared},
                  {"free", pages->free},
                  {"total", pages->total}};
    for (int i = 0; i < 4; i++) {
        char labels[64];
        snprintf(labels, sizeof labels, "{model=\"%s\",state=\"%s\"}", model, counts[i].state);
        sample(out, "kv_pages", labels, counts[i].n);
    }
}

static void write_engine(const vly_engine *engine, vly_writer *out)
{
    vly_engine_metrics e;
    vly_engine_get_metrics(engine, &e);
    gauge(out, "num_requests_running", e.running, "Sequences that run.");
    gauge(out, "num_requests_waiting", e.queued, "Requests that wait for their turn.");
    gauge(out, "num_requests_paused", e.paused, "Running sequences that are paused.");
    counter(out, "num_preemptions_total", (double)e.preempted,
            "How often one sequence gave up its pages for others.");
    head(out, "kv_pages", "gauge",
         "Pages of the caches. Used: held by sequences; shared: of these by more than one; free: "
         "for the taking.");
    write_pages(out, "target", &e.target);
    if (vly_engine_get_info(engine)->draft_name) write_pages(out, "draft", &e.draft);
    counter(out, "prefix_cache_hit_tokens_total", (double)e.prefix_hit_tokens,
            "Prompt tokens whose keys and values were there already.");
    counter(out, "prefix_cache_miss_tokens_total", (double)e.prefix_miss_tokens,
            "Prompt tokens that were computed.");
    gauge(out, "device_memory_bytes", (double)e.device_bytes,
          "Weights, activations and caches on the device.");
    head(out, "step_time_seconds", "summary", "Steps, from submission to completion.");
    sample(out, "step_time_seconds_sum", "", e.step_ms / 1000);
    sample(out, "step_time_seconds_count", "", (double)e.steps);
}

/* Bytes of this process that are in memory; 0 where that cannot be told. */
static double resident_bytes(void)
{
    unsigned long long all, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &all, &resident) != 2) resident = 0;
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* Processor time of this thread, which is the loop's. */
static double thread_seconds(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void vly_metrics_write(const vly_serve_metrics *m, const vly_engine *engine, uint32_t n_connections,
                       vly_writer *out)
{
    write_speculation(m, out);
    counter(out, "prompt_tokens_total", (double)m->prompt_tokens, "Tokens of prompts.");
    counter(out, "generation_tokens_total", (double)m->generated_tokens, "Tokens written.");
    head(out, "requests_total", "counter", "Completions by how they ended.");
    for (int i = 0; i < VLY_N_OUTCOMES; i++) {
        char labels[48];
        snprintf(labels, sizeof labels, "{outcome=\"%s\"}", vly_outcome_name(i));
        sample(out, "requests_total", labels, (double)m->completions[i]);
    }
    histogram(out, "time_to_first_token_seconds", &m->first_token,
              "From a request's last byte to its first token.");
    histogram(out, "inter_token_latency_seconds", &m->inter_token,
              "Between the tokens of an answer; those of one block share its time.");
    histogram(out, "e2e_request_latency_seconds", &m->duration,
              "From a request's last byte to its answer's.");
    counter(out, "serve_time_seconds_total", m->serve_s,
            "Time spent on writing and sending answers, without the engine's.");
    counter(out, "loop_cpu_seconds_total", thread_seconds(),
            "Processor time of the thread that does all but what drivers do in theirs.");
    if (engine) write_engine(engine, out);
    gauge(out, "connections", n_connections, "Open connections.");
    counter(out, "connections_accepted_total", (double)m->connections_accepted,
            "Connections that were taken.");
    counter(out, "connections_refused_total", (double)m->connections_refused,
            "Connections beyond the limits.");
    gauge(out, "resident_memory_bytes", resident_bytes(), "Memory of the process on the host.");
}
