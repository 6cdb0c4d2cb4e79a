/* volley perplexity: how well the target foretells a text, over windows of it. */
#include "cli/cli.h"
#include "cli/generate.h"
#include "cli/json_fields.h"
#include "cli/progress_line.h"
#include "model/config.h"
#include "store/store.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_WINDOW 512

/* How windows lie in the text, in tokens. */
typedef struct {
    uint32_t length, stride;
    uint32_t counted; /* the last so many of each */
    size_t n;
} windows;

/* Sums over counted tokens of -log p, and of its square. */
typedef struct {
    double nll, nll2;
    size_t n;
} sums;

typedef struct {
    const vly_cli_options *options;
    vly_engine *engine;
    vly_ids ids;
    uint32_t bos; /* that windows side by side begin with; UINT32_MAX: they do not */
    windows windows;
    sums sums;
    const uint32_t *window; /* that is being computed */
    vly_error err;          /* where take_position fails */
    vly_progress_line progress;
} job;

static double mean(const sums *s)
{
    return s->nll / (double)s->n;
}

static double perplexity(const sums *s)
{
    return exp(mean(s));
}

/* The standard error: that of the mean of -log p, through the exponential. NAN: one token tells
 * none. */
static double standard_error(const sums *s)
{
    double variance = s->nll2 / (double)s->n - mean(s) * mean(s);
    if (s->n < 2) return NAN;
    return variance < 0 ? 0 : perplexity(s) * sqrt(variance / (double)(s->n - 1));
}

typedef struct {
    char text[640]; /* of the largest doubles */
} figure;

/* "2.7435 +/- 0.1806". */
static figure figure_of(const sums *s)
{
    figure f;
    int n = snprintf(f.text, sizeof f.text, "%.4f", perplexity(s));
    if (s->n > 1) snprintf(f.text + n, sizeof f.text - (size_t)n, " +/- %.4f", standard_error(s));
    return f;
}

/* ---- computing ---- */

/* A vly_logits_fn. */
static int take_position(void *arg, uint32_t pos, uint32_t id, const float *logits,
                         uint32_t n_vocab)
{
    (void)id;
    job *j = arg;
    float max = logits[0];
    for (uint32_t i = 1; i < n_vocab; i++) max = logits[i] > max ? logits[i] : max;
    double exp_sum = (double)expf(logits[0] - max);
    for (uint32_t i = 1; i < n_vocab; i++) exp_sum += (double)expf(logits[i] - max);
    uint32_t next = j->window[pos + 1];
    double nll = (double)max + log(exp_sum) - (double)logits[next];
    if (!isfinite(nll))
        return vly_fail(&j->err, VLY_E_FORMAT,
                        "token %" PRIu32 " after position %" PRIu32 " of a window: expected a "
                        "probability, got %g: the model's weights are broken",
                        next, pos, exp(-nll));
    j->sums.nll += nll;
    j->sums.nll2 += nll * nll;
    j->sums.n++;
    return 0;
}

/* Tells how far it is: on a terminal now and then in one line, else after each tenth. */
static void show_progress(job *j, size_t done)
{
    bool tenth = done * 10 / j->windows.n > (done - 1) * 10 / j->windows.n;
    double elapsed_s = vly_progress_line_seconds(&j->progress);
    double left_s = elapsed_s / (double)done * (double)(j->windows.n - done);
    char line[1024];
    snprintf(line, sizeof line, "window %zu of %zu: perplexity %s, %.0f s left", done, j->windows.n,
             figure_of(&j->sums).text, left_s);
    if (vly_progress_line_is_due(&j->progress))
        vly_progress_line_show(&j->progress, "%s", line);
    else if (tenth && !j->progress.on_terminal)
        fprintf(stderr, "%s\n", line);
}

static int compute_window(job *j, size_t i, vly_error *err)
{
    uint32_t *ids = j->ids.data + i * j->windows.stride, first = ids[0];
    if (j->bos != UINT32_MAX) ids[0] = j->bos;
    j->window = ids;
    /* The logits at the last token would foretell what is not in the window. */
    uint32_t n = j->windows.length - 1;
    int rc = vly_engine_logits(j->engine, ids, n, n - j->windows.counted, take_position, j, err);
    if (j->err.code) *err = j->err;
    ids[0] = first;
    return rc;
}

/* ---- preparing ---- */

/* A vly_cli_use_models: the context that the target was made for. */
static int read_context(void *arg, const vly_engine_options *options, vly_error *err)
{
    vly_arch described;
    vly_model_config config;
    vly_gguf *gguf;
    int rc = options->arch ? vly_arch_read(options->arch, &described, err) : 0;
    if (rc || (rc = vly_store_open(options->target, &gguf, err))) return rc;
    rc = vly_model_config_read(gguf, options->arch ? &described : NULL, &config, err);
    vly_gguf_close(gguf);
    if (rc == 0) *(uint32_t *)arg = config.n_ctx;
    return rc;
}

/* The window's length: what was asked for, held against the context before the model is loaded. */
static int find_length(const vly_cli_options *o, uint32_t *out, vly_error *err)
{
    uint32_t n_ctx;
    int rc = vly_cli_find_models(o, false, read_context, &n_ctx, err);
    if (rc) return rc;
    *out = o->n_ctx ? o->n_ctx : DEFAULT_WINDOW;
    if (*out <= n_ctx) return 0;
    if (o->n_ctx)
        return vly_fail(err, VLY_E_CONTEXT,
                        "-c: expected a window of at most the model's context, %" PRIu32
                        " tokens, got %" PRIu32,
                        n_ctx, *out);
    *out = n_ctx;
    return 0;
}

static int lay_windows(job *j, uint32_t length, vly_error *err)
{
    uint32_t stride = j->options->stride;
    windows *w = &j->windows;
    if (stride >= length)
        return vly_fail(err, VLY_E_INVALID,
                        "--stride: expected fewer than the %" PRIu32 " tokens of a window, got "
                        "%" PRIu32,
                        length, stride);
    if (j->ids.len < length && j->ids.len < 2)
        return vly_fail(err, VLY_E_INVALID, "the text has %zu token%s; expected at least 2",
                        j->ids.len, vly_plural(j->ids.len));
    if (j->ids.len < length)
        return vly_fail(err, VLY_E_INVALID,
                        "the text has %zu tokens; expected at least %" PRIu32
                        ", a window: give more text, or -c %zu",
                        j->ids.len, length, j->ids.len);
    *w = (windows){length, stride ? stride : length, stride ? stride : length - 1 - length / 2, 0};
    size_t rest = j->ids.len - length;
    /* A last window that is only begun is left out. */
    w->n = stride ? (rest + stride - 1) / stride : j->ids.len / length;
    if (w->n == 0) w->n = 1;
    if (w->counted == 0) w->counted = 1; /* of two tokens the second */
    return 0;
}

static int tokenize(job *j, const vly_text *text, vly_error *err)
{
    const vly_cli_options *o = j->options;
    uint32_t *start;
    size_t n_start;
    int rc = vly_engine_tokenize(j->engine, text->data, text->len, true, o->parse_special,
                                 &j->ids.data, &j->ids.len, err);
    j->bos = UINT32_MAX;
    /* Windows that overlap go on in the middle of a text, as llama-perplexity's do. */
    if (rc || o->stride) return rc;
    rc = vly_engine_tokenize(j->engine, "", 0, true, false, &start, &n_start, err);
    if (rc) return rc;
    if (n_start) j->bos = start[0];
    free(start);
    return 0;
}

/* ---- the command ---- */

static int print_result(const job *j, vly_error *err)
{
    const windows *w = &j->windows;
    if (!j->options->json) {
        printf("perplexity %s, %zu window%s of %" PRIu32 " tokens, %zu of %zu tokens counted\n",
               figure_of(&j->sums).text, w->n, vly_plural(w->n), w->length, j->sums.n, j->ids.len);
        return 0;
    }
    cJSON *json = cJSON_CreateObject();
    vly_cli_json_add_name(json, "model", vly_engine_get_info(j->engine)->target_name);
    vly_cli_json_add_real(json, "perplexity", perplexity(&j->sums), 6);
    vly_cli_json_add_real(json, "standard_error", standard_error(&j->sums), 6);
    vly_cli_json_add_real(json, "mean_nll", mean(&j->sums), 8);
    vly_cli_json_add_count(json, "ctx", w->length);
    vly_cli_json_add_count(json, "stride", w->stride);
    vly_cli_json_add_count(json, "windows", w->n);
    vly_cli_json_add_count(json, "tokens", j->ids.len);
    vly_cli_json_add_count(json, "counted_tokens", j->sums.n);
    return vly_cli_json_print(json, err);
}

static int measure(job *j, const vly_text *text, vly_error *err)
{
    uint32_t length;
    int rc = find_length(j->options, &length, err);
    if (rc) return rc;
    vly_cli_options with_window = *j->options;
    with_window.n_ctx = length;
    if ((rc = vly_cli_load(&with_window, false, &j->engine, err))) return rc;
    rc = tokenize(j, text, err);
    if (rc == 0) rc = lay_windows(j, length, err);
    j->progress = vly_progress_line_begin();
    for (size_t i = 0; rc == 0 && i < j->windows.n; i++) {
        rc = compute_window(j, i, err);
        if (rc == 0) show_progress(j, i + 1);
    }
    vly_progress_line_clear(&j->progress);
    if (rc == 0) rc = print_result(j, err);
    vly_engine_destroy(j->engine);
    return rc;
}

int vly_cli_perplexity(int argc, char **argv)
{
    vly_cli_options options;
    vly_text text = {0};
    vly_error err;
    int status = vly_cli_options_parse(VLY_CLI_PERPLEXITY, argc, argv, &options);
    job j = {.options = &options};
    if (!status) status = vly_cli_read_prompt(argv[0], &options, &text);
    if (!status && measure(&j, &text, &err)) status = vly_cli_fail(&err);
    vly_text_free(&text);
    vly_ids_free(&j.ids);
    vly_cli_options_deinit(&options);
    return status < 0 ? 0 : status;
}
