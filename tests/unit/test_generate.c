/* run, verify and logits against an engine that is made to misbehave: the real one gives no two
 * texts that differ, and loses no device when it is asked to. This program's vly_engine_* take the
 * place of the library's. */
#include "base/error.h"
#include "cli/best_logits.h"
#include "cli/cli.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the engine ---- */

#define N_VOCAB 8

/* What it does; a text is digits, one a token. */
static struct {
    const char *drafted_text, *plain_text; /* ends by VLY_FINISH_STOP */
    int fail_after;                        /* tokens, then the device is lost; 0: never */
    int interrupt_after;                   /* tokens, then Ctrl-C */
    float broken_logit;
    vly_engine_options options;
    vly_engine_defaults defaults;
} plan;

struct vly_engine {
    vly_request request;
    bool cancelled, interrupted;
};
struct vly_sequence {
    int unused;
};
static vly_engine engine;
static vly_sequence sequence;

int vly_engine_create(const vly_engine_options *options, vly_engine **out, vly_error *err)
{
    (void)err;
    plan.options = *options;
    engine = (vly_engine){0};
    *out = &engine;
    return 0;
}

void vly_engine_destroy(vly_engine *e)
{
    (void)e;
}

const vly_engine_info *vly_engine_get_info(const vly_engine *e)
{
    (void)e;
    static vly_engine_info info = {.device_name = "none", .target_name = "t", .n_vocab = N_VOCAB};
    info.draft_name = plan.options.draft ? "d" : NULL;
    return &info;
}

const vly_engine_defaults *vly_engine_get_defaults(const vly_engine *e)
{
    (void)e;
    return &plan.defaults;
}

int vly_engine_tokenize(const vly_engine *e, const char *text, size_t len, bool bos,
                        bool parse_special, uint32_t **ids, size_t *n, vly_error *err)
{
    (void)e, (void)bos, (void)parse_special, (void)err;
    *ids = calloc(len + 1, sizeof **ids);
    assert_non_null(*ids);
    *n = len;
    for (size_t i = 0; i < len; i++) (*ids)[i] = (uint32_t)(text[i] - '0');
    return 0;
}

const char *vly_engine_token_bytes(const vly_engine *e, uint32_t id, size_t *len)
{
    (void)e;
    *len = 1;
    return &"01234567"[id];
}

const char *vly_finish_name(vly_finish finish)
{
    return (const char *const[]){"stop", "length", "cancelled", "error"}[finish];
}

int vly_engine_start(vly_engine *e, const vly_request *request, vly_sequence **out,
                     uint32_t **prompt_ids, size_t *n_prompt_ids, vly_error *err)
{
    e->request = *request;
    e->cancelled = e->interrupted = false;
    *out = &sequence;
    return vly_engine_tokenize(e, request->prompt, request->prompt_len, true, false, prompt_ids,
                               n_prompt_ids, err);
}

void vly_sequence_cancel(vly_sequence *s)
{
    (void)s;
    engine.cancelled = true;
}

void vly_engine_interrupt(vly_engine *e)
{
    e->interrupted = true;
}

int vly_engine_run(vly_engine *e, vly_error *err)
{
    (void)err;
    const vly_request *r = &e->request;
    const char *text = plan.options.draft && r->draft_max ? plan.drafted_text : plan.plain_text;
    vly_stats stats = {.generate_ms = 1};
    vly_error lost;
    vly_fail(&lost, VLY_E_DEVICE_LOST, "the device was lost in step 7");
    for (int i = 0; text[i]; i++) {
        if (plan.fail_after && i == plan.fail_after) {
            r->on_finish(r->arg, VLY_FINISH_ERROR, &stats, "", 0, &lost);
            return 0;
        }
        if (plan.interrupt_after && i == plan.interrupt_after) raise(SIGINT);
        if (e->cancelled || e->interrupted) {
            r->on_finish(r->arg, VLY_FINISH_CANCELLED, &stats, "", 0, NULL);
            return 0;
        }
        uint32_t id = (uint32_t)(text[i] - '0');
        stats.generated_tokens++;
        stats.blocks++;
        r->on_tokens(r->arg, &id, NULL, 1, text + i, 1);
    }
    r->on_finish(r->arg, VLY_FINISH_STOP, &stats, "\xef\xbf\xbd", 3, NULL);
    return 0;
}

/* The logit of token t at position p is (t * 3 + p) % 8. */
int vly_engine_logits(vly_engine *e, const uint32_t *ids, size_t n, size_t first, vly_logits_fn fn,
                      void *arg, vly_error *err)
{
    (void)e, (void)err;
    for (uint32_t pos = (uint32_t)first; pos < n; pos++) {
        float logits[N_VOCAB];
        for (uint32_t t = 0; t < N_VOCAB; t++) logits[t] = (float)((t * 3 + pos) % 8);
        if (isnan(plan.broken_logit)) logits[5] = plan.broken_logit;
        int rc = fn(arg, pos, ids[pos], logits, N_VOCAB);
        if (rc) return rc;
    }
    return 0;
}

/* ---- the tests ---- */

static char *out, *err_text;

static char *take(FILE *file)
{
    long n = ftell(file);
    char *text = calloc(1, (size_t)n + 1);
    assert_non_null(text);
    rewind(file);
    assert_int_equal(fread(text, 1, (size_t)n, file), n);
    fclose(file);
    return text;
}

/* Runs the words of `line`; leaves what was written in `out` and `err_text`. The words stay until
 * the next call: `plan` keeps pointers to them. */
static int run(int (*command)(int, char **), const char *line)
{
    static char words[256];
    char *argv[32] = {0};
    int argc = 0;
    assert_true(strlen(line) < sizeof words);
    strcpy(words, line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    FILE *files[2] = {tmpfile(), tmpfile()};
    int saved[2];
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        assert_non_null(files[i]);
        saved[i] = dup(i + 1);
        dup2(fileno(files[i]), i + 1);
    }
    optind = 0;
    int status = command(argc, argv);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
        fseek(files[i], 0, SEEK_END);
    }
    free(out);
    free(err_text);
    out = take(files[0]);
    err_text = take(files[1]);
    return status;
}

static int reset(void **state)
{
    (void)state;
    memset(&plan, 0, sizeof plan);
    plan.defaults = (vly_engine_defaults){vly_sampling_default(), .max_tokens = UINT32_MAX};
    return 0;
}

static int release(void **state)
{
    (void)state;
    free(out);
    free(err_text);
    out = err_text = NULL;
    return 0;
}

#define expect(text, part)                                                                         \
    do {                                                                                           \
        if (!strstr(text, part)) fail_msg("no '%s' in: %s", part, text);                           \
    } while (0)

static void verify_shows_the_first_difference(void **state)
{
    (void)state;
    plan.drafted_text = "1234";
    plan.plain_text = "1254";
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 00 --seed 9 --seeds 2"), 1);
    expect(out, "seed 9: DIFFERENT, 4 tokens");
    expect(out, "first difference: token 2 of the text, position 4 with the prompt");
    expect(out, "with the draft:     token 3 \"3\"");
    expect(out, "without the draft:  token 5 \"5\"");
    /* Position 3: token 4 has logit 15 % 8, token 1 has 6. */
    expect(out, "token 4 with logit 7, token 1 with 6: a gap of 1");
    expect(out, "seed 10: DIFFERENT");
    expect(out, "DIFFERENT for 2 of 2 seeds, 8 tokens");
    assert_string_equal(err_text, "");

    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 00 --seed 9 --json"), 1);
    cJSON *json = cJSON_Parse(out);
    assert_non_null(json);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "identical")));
    const cJSON *seed = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "seeds"), 0);
    char *difference = cJSON_PrintUnformatted(cJSON_GetObjectItem(seed, "difference"));
    assert_string_equal(difference,
                        "{\"index\":2,\"position\":4,\"with_draft\":3,\"without_draft\":5,"
                        "\"best\":[[4,7],[1,6]],\"gap\":1}");
    cJSON_free(difference);
    cJSON_Delete(json);
}

static void verify_notices_a_text_that_ends_early(void **state)
{
    (void)state;
    plan.drafted_text = "12";
    plan.plain_text = "123";
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 0"), 1);
    expect(out, "with the draft:     the text ends: stop");
    expect(out, "without the draft:  token 3");
    plan.drafted_text = "123";
    plan.plain_text = "12";
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 0 --json"), 1);
    expect(out, "\"with_draft\":3,\"without_draft\":null");
    plan.plain_text = "123";
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 0"), 0);
    expect(out, "identical for 1 seed, 3 tokens");
}

static void failures_leave_no_json(void **state)
{
    (void)state;
    plan.plain_text = plan.drafted_text = "123";
    plan.fail_after = 2;
    assert_int_equal(run(vly_cli_run, "run -m t -p 0 --json"), 1);
    assert_string_equal(out, "");
    assert_string_equal(err_text, "volley: error: the device was lost in step 7\n");
    assert_int_equal(run(vly_cli_run, "run -m t -p 0"), 1);
    assert_string_equal(out, "12");
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 0 --json"), 1);
    assert_string_equal(out, "");
    expect(err_text, "the device was lost");
}

static void interrupted_texts_are_kept(void **state)
{
    (void)state;
    plan.plain_text = plan.drafted_text = "1234";
    plan.interrupt_after = 2;
    assert_int_equal(run(vly_cli_run, "run -m t -p 0 --json"), 130);
    expect(out, "\"text\":\"12\",\"tokens\":[1,2],\"finish_reason\":\"cancelled\"");
    assert_int_equal(run(vly_cli_run, "run -m t -p 0 --seed 3"), 130);
    assert_string_equal(out, "12\n");
    expect(err_text, "2 tokens, 2000.0 tokens/s, 2 blocks, seed 3\n");
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 0"), 130);
    assert_string_equal(out, "");
    assert_int_equal(run(vly_cli_verify, "verify -m t -d d -p 0 --json"), 130);
    expect(out, "\"identical\":false");
}

static void text_that_was_held_back_is_written(void **state)
{
    (void)state;
    plan.plain_text = "12";
    assert_int_equal(run(vly_cli_run, "run -m t -p 0"), 0);
    assert_string_equal(out, "12\xef\xbf\xbd\n");
}

static void options_reach_the_engine(void **state)
{
    (void)state;
    plan.plain_text = plan.drafted_text = "";
    assert_int_equal(run(vly_cli_run, "run -m t -p 0"), 0);
    assert_null(plan.options.draft);
    const vly_request *r = &engine.request;
    assert_true(r->max_tokens == UINT32_MAX && r->draft_max == VLY_MAX_DRAFT && !r->ignore_end);
    assert_int_equal(r->draft_method, VLY_DRAFT_AUTO);
    assert_true(r->sampling.temperature == 0.7f && r->sampling.top_p == 0.95f);
    assert_true(r->sampling.top_k == 0 && r->sampling.min_p == 0);
    assert_true(r->sampling.repeat_penalty == 1 && r->sampling.n_bias == 0);
    assert_true(r->sampling.seed < UINT64_C(1) << 53);
    assert_int_equal(run(vly_cli_run, "run -m t -d d --device x -c 0 --kv f16 -p 0 --max-tokens -1 "
                                      "--temperature 2 --draft-max 15"),
                     0);
    assert_string_equal(plan.options.device, "x");
    assert_non_null(plan.options.draft);
    assert_true(plan.options.kv_f16 && r->max_tokens == UINT32_MAX && r->draft_max == 15);
    assert_true(r->sampling.temperature == 2);
    assert_int_equal(run(vly_cli_run, "run -m t -d none -p 0 -n 7 --seed 18446744073709551615"), 0);
    assert_null(plan.options.draft);
    assert_true(r->max_tokens == 7 && r->sampling.seed == UINT64_MAX);
}

static void recommendations_stand_where_nothing_was_asked_for(void **state)
{
    (void)state;
    static const char *const stop[] = {"<|im_end|>"};
    plan.plain_text = plan.drafted_text = "";
    plan.defaults.sampling.temperature = 0.25f;
    plan.defaults.sampling.top_k = 7;
    plan.defaults.max_tokens = 100;
    plan.defaults.stop = stop;
    plan.defaults.n_stop = 1;
    assert_int_equal(run(vly_cli_run, "run -m t -p 0 --seed 3 --logit-bias 1:2"), 0);
    const vly_request *r = &engine.request;
    assert_true(r->sampling.temperature == 0.25f && r->sampling.top_k == 7 && r->max_tokens == 100);
    assert_true(r->sampling.seed == 3 && r->sampling.n_bias == 1 && r->n_stop == 1);
    /* What was asked for stands, though it be what is taken anyway. */
    assert_int_equal(run(vly_cli_run, "run -m t -p 0 --temp 0.7 --top-k 0 -n -1"), 0);
    assert_true(r->sampling.temperature == 0.7f && r->sampling.top_k == 0);
    assert_true(r->max_tokens == UINT32_MAX);
}

static void logits_are_listed(void **state)
{
    (void)state;
    assert_int_equal(run(vly_cli_logits, "logits -m t --ids 4,7 --top 2"), 0);
    /* Both rows hold 0 to 7. */
    expect(out, "{\"pos\":0,\"id\":4,\"top\":[[5,7],[2,6]],\"lse\":7.4583396");
    expect(out, "{\"pos\":1,\"id\":7,\"top\":[[2,7],[7,6]],\"lse\":7.4583396");
    expect(out, ",\"mean\":3.5}\n");
    plan.broken_logit = NAN;
    assert_int_equal(run(vly_cli_logits, "logits -m t --ids 4,7"), 1);
    assert_string_equal(out, "");
    expect(err_text, "position 0, token 5: expected a finite logit, got nan");
}

static void best_logits_are_in_order(void **state)
{
    (void)state;
    static const float logits[] = {1, 3, -INFINITY, 3, 2, 3};
    vly_cli_logit best[8];
    assert_int_equal(vly_cli_best_logits(logits, 6, 2, best), 2);
    assert_true(best[0].id == 1 && best[1].id == 3);
    assert_int_equal(vly_cli_best_logits(logits, 6, 8, best), 6);
    static const uint32_t order[] = {1, 3, 5, 4, 0, 2};
    for (int i = 0; i < 6; i++) assert_int_equal(best[i].id, order[i]);
    assert_int_equal(vly_cli_best_logits(logits, 6, 0, best), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(verify_shows_the_first_difference, reset),
        cmocka_unit_test_setup(verify_notices_a_text_that_ends_early, reset),
        cmocka_unit_test_setup(failures_leave_no_json, reset),
        cmocka_unit_test_setup(interrupted_texts_are_kept, reset),
        cmocka_unit_test_setup(text_that_was_held_back_is_written, reset),
        cmocka_unit_test_setup(options_reach_the_engine, reset),
        cmocka_unit_test_setup(recommendations_stand_where_nothing_was_asked_for, reset),
        cmocka_unit_test_setup(logits_are_listed, reset),
        cmocka_unit_test(best_logits_are_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, release);
}
