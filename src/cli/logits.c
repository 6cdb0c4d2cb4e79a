/* volley logits: the target's logits over a text, for checking numerics. */
#include "cli/best_logits.h"
#include "cli/cli.h"
#include "cli/generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    uint32_t n_top;
    vly_cli_logit *top; /* [n_top] */
    vly_error err;      /* where print_position fails */
} printer;

static int check_finite(uint32_t pos, const float *logits, uint32_t n_vocab, vly_error *err)
{
    for (uint32_t id = 0; id < n_vocab; id++)
        if (!isfinite(logits[id]))
            return vly_fail(err, VLY_E_FORMAT,
                            "position %" PRIu32 ", token %" PRIu32
                            ": expected a finite logit, got %g: the model's weights are broken",
                            pos, id, (double)logits[id]);
    return 0;
}

/* A vly_logits_fn. */
static int print_position(void *arg, uint32_t pos, uint32_t id, const float *logits,
                          uint32_t n_vocab)
{
    printer *p = arg;
    int rc = check_finite(pos, logits, n_vocab, &p->err);
    if (rc) return rc;
    uint32_t n_top = vly_cli_best_logits(logits, n_vocab, p->n_top, p->top);
    double max = n_top ? (double)p->top[0].logit : 0, exp_sum = 0, sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        exp_sum += exp((double)logits[i] - max);
        sum += (double)logits[i];
    }
    printf("{\"pos\":%" PRIu32 ",\"id\":%" PRIu32 ",\"top\":[", pos, id);
    for (uint32_t i = 0; i < n_top; i++)
        printf("%s[%" PRIu32 ",%.9g]", i ? "," : "", p->top[i].id, (double)p->top[i].logit);
    printf("],\"lse\":%.12g,\"mean\":%.12g}\n", max + log(exp_sum), sum / n_vocab);
    return 0;
}

/* The tokens that were given, or those of the text. */
static int find_ids(const vly_cli_options *o, const vly_engine *engine, const vly_text *prompt,
                    vly_ids *ids, vly_error *err)
{
    int rc;
    if (o->ids.len) {
        rc = vly_ids_append(ids, o->ids.data, o->ids.len);
    } else {
        uint32_t *data;
        size_t n;
        rc = vly_engine_tokenize(engine, prompt->data, prompt->len, true, o->parse_special, &data,
                                 &n, err);
        if (rc) return rc;
        rc = vly_ids_append(ids, data, n);
        free(data);
    }
    return rc ? vly_fail(err, rc, "no memory for the tokens") : 0;
}

static int print_logits(const vly_cli_options *o, const vly_text *prompt, vly_error *err)
{
    vly_engine *engine;
    int rc = vly_cli_load(o, false, &engine, err);
    if (rc) return rc;
    vly_ids ids = {0};
    rc = find_ids(o, engine, prompt, &ids, err);
    printer p = {.n_top = o->n_top, .top = calloc(o->n_top, sizeof *p.top)};
    if (!rc && !p.top) rc = vly_fail(err, VLY_E_HOST_MEMORY, "no memory for %u logits", p.n_top);
    if (!rc) rc = vly_engine_logits(engine, ids.data, ids.len, 0, print_position, &p, err);
    if (p.err.code) *err = p.err;
    free(p.top);
    vly_ids_free(&ids);
    vly_engine_destroy(engine);
    return rc;
}

int vly_cli_logits(int argc, char **argv)
{
    vly_cli_options options;
    vly_text prompt = {0};
    vly_error err;
    int status = vly_cli_options_parse(VLY_CLI_LOGITS, argc, argv, &options);
    if (!status && !options.ids.len) status = vly_cli_read_prompt(argv[0], &options, &prompt);
    if (!status && print_logits(&options, &prompt, &err)) status = vly_cli_fail(&err);
    vly_text_free(&prompt);
    vly_cli_options_deinit(&options);
    return status < 0 ? 0 : status;
}
