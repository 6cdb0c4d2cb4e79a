/* Speculation on and off: the same tokens, over a covering set of all that could tell them apart.
 * Every two levels of any two factors below meet in at least one case. The text without
 * speculation comes from an engine that has no draft. */
#include "tests/support/gguf_copy.h"
#include "tests/support/reference.h"
#include "volley.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the factors ---- */

enum factor { METHOD, TEMPERATURE, FILTER, K, KV, PAIR, TEXT, LOGPROBS, N_FACTORS };

enum { ALL, TOP_K, TOP_P, MIN_P, PENALTIES, BIAS, N_FILTERS }; /* levels of FILTER */
enum {
    SHORT,
    REPEATING,
    LONGER_THAN_A_CHUNK,
    CONTEXT_FILLED,
    N_TEXTS,
    LONG_TEXT = N_TEXTS
}; /* levels of TEXT */

/* Methods: all but the default, which is one of the others, and none. */
enum { N_METHODS = VLY_N_DRAFT_METHODS - 2, MAX_LEVELS = 8, MAX_CASES = 100 };

static const float temperatures[] = {0.0f, 0.7f, 1.0f, 2.0f};
static const uint32_t lengths[] = {1, 4, 16};

/* The shipped target has a context of 256, less than a chunk of a prompt: `target` is a copy that
 * claims 1024. */
static char target[] = "/tmp/volley-test-XXXXXX";
static const char *const draft = "models/smol-stories-11M-q8_0.gguf";
enum { N_PAIRS = 4, N_CTX = 1024, SMALL_N_CTX = 64, CHUNK = 512, PAGE = 32 };

static const uint32_t n_levels[N_FACTORS] = {
    [METHOD] = N_METHODS, [TEMPERATURE] = 4, [FILTER] = N_FILTERS, [K] = 3, [KV] = 2,
    [PAIR] = N_PAIRS,     [TEXT] = N_TEXTS,  [LOGPROBS] = 2,
};

typedef struct {
    uint32_t level[N_FACTORS];
} test_case;

static vly_draft_method method_of(const test_case *c)
{
    uint32_t method = c->level[METHOD] + 1; /* 0 is the default */
    return (vly_draft_method)(method + (method >= VLY_DRAFT_NONE));
}

static uint32_t level_of_model(void)
{
    test_case c = {0};
    while (method_of(&c) != VLY_DRAFT_MODEL) c.level[METHOD]++;
    return c.level[METHOD];
}

/* ---- the covering set ---- */

static bool met[N_FACTORS][N_FACTORS][MAX_LEVELS][MAX_LEVELS];

static uint32_t n_new_pairs(const test_case *c, bool meet)
{
    uint32_t n = 0;
    for (int a = 0; a < N_FACTORS; a++)
        for (int b = a + 1; b < N_FACTORS; b++) {
            bool *pair = &met[a][b][c->level[a]][c->level[b]];
            n += !*pair;
            if (meet) *pair = true;
        }
    return n;
}

/* Sets the levels of a pair that is not met yet; false when all are. */
static bool find_open_pair(test_case *c)
{
    for (int a = 0; a < N_FACTORS; a++)
        for (int b = a + 1; b < N_FACTORS; b++)
            for (uint32_t i = 0; i < n_levels[a]; i++)
                for (uint32_t j = 0; j < n_levels[b]; j++)
                    if (!met[a][b][i][j]) {
                        c->level[a] = i;
                        c->level[b] = j;
                        return true;
                    }
    return false;
}

/* Greedy: each case is the best of some at random that has an open pair. */
static size_t make_cases(test_case cases[MAX_CASES])
{
    uint64_t random = 1;
    size_t n = 0;
    memset(met, 0, sizeof met);
    for (test_case open; find_open_pair(&open); n++) {
        uint32_t most = 0;
        assert_true(n < MAX_CASES);
        for (int attempt = 0; attempt < 200; attempt++) {
            test_case c;
            for (int f = 0; f < N_FACTORS; f++)
                c.level[f] = (uint32_t)(reference_random(&random) % n_levels[f]);
            find_open_pair(&c);
            uint32_t n_new = n_new_pairs(&c, false);
            if (n_new > most) cases[n] = c;
            if (n_new > most) most = n_new;
        }
        n_new_pairs(&cases[n], true);
    }
    return n;
}

/* ---- one text ---- */

typedef struct {
    uint32_t ids[N_CTX], n_ids;
    float logprob[N_CTX];
    uint32_t block[N_CTX], n_blocks; /* tokens that came at a time */
    char text[8192];
    size_t len;
    vly_finish finish;
    vly_stats stats;
    bool finished;
} generation;

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    generation *g = arg;
    assert_true(g->n_ids + n <= N_CTX && g->len + len < sizeof g->text);
    for (uint32_t i = 0; i < n; i++) {
        g->logprob[g->n_ids] = logprobs ? logprobs[i].logprob : 0.0f;
        g->ids[g->n_ids++] = ids[i];
    }
    g->block[g->n_blocks++] = n;
    memcpy(g->text + g->len, text, len);
    g->len += len;
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *err)
{
    generation *g = arg;
    if (finish == VLY_FINISH_ERROR) fail_msg("%s", err->message);
    assert_true(g->len + len < sizeof g->text);
    memcpy(g->text + g->len, text, len);
    g->len += len;
    g->finish = finish;
    g->stats = *stats;
    g->finished = true;
}

/* The text of `level`, some of its sentences chosen by the case, in `to`. */
static void write_prompt(uint32_t level, size_t number, char *to, size_t size)
{
    static const char *const sentences[] = {
        "Tom and his dog Max went to the big park. ",
        "Lily said, \"I want to play with the red ball too!\" ",
        "Her mom smiled and gave them some bread and milk. ",
        "It was a sunny day, so the birds were very happy. ",
        "Then they saw a little frog near the old tree. ",
    };
    uint32_t n = level == LONGER_THAN_A_CHUNK ? 52 : level == REPEATING ? 5 : 0;
    size_t len = 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t which = level == REPEATING ? number : number + i * i / 3 + i;
        len += (size_t)snprintf(to + len, size - len, "%s", sentences[which % 5]);
    }
    snprintf(to + len, size - len, n ? "Tom" : "One day, a girl named Sue");
}

static vly_sampling sampling_of(const test_case *c, size_t number)
{
    static const vly_logit_bias bias[] = {{263, -INFINITY}, {278, 2.5f}, {325, 1.0f}};
    vly_sampling s = vly_sampling_default();
    s.seed = UINT64_C(0x9e3779b97f4a7c15) * (number + 1);
    s.temperature = temperatures[c->level[TEMPERATURE]];
    s.top_p = 1.0f;
    switch (c->level[FILTER]) {
    case TOP_K:
        s.top_k = 20;
        break;
    case TOP_P:
        s.top_p = 0.8f;
        break;
    case MIN_P:
        s.min_p = 0.05f;
        break;
    case PENALTIES:
        s.repeat_penalty = 1.2f;
        s.presence_penalty = 0.3f;
        s.frequency_penalty = 0.2f;
        s.penalty_last_n = 30;
        break;
    case BIAS:
        s.bias = bias;
        s.n_bias = 3;
        break;
    default:
        break;
    }
    return s;
}

/* The case's text by `engine`, with its drafting or without. */
static generation *generate(vly_engine *engine, const test_case *c, size_t number, bool drafting)
{
    static const uint32_t n_tokens[N_TEXTS + 1] = {48, 40, 24, UINT32_MAX, 150};
    char prompt[4096];
    write_prompt(c->level[TEXT], number, prompt, sizeof prompt);
    generation *g = calloc(1, sizeof *g);
    assert_non_null(g);
    vly_request request = {.prompt = prompt,
                           .prompt_len = strlen(prompt),
                           .max_tokens = n_tokens[c->level[TEXT]],
                           .ignore_end = c->level[TEXT] == CONTEXT_FILLED,
                           .no_prefix_reuse = !drafting,
                           .logprobs = c->level[LOGPROBS],
                           .sampling = sampling_of(c, number),
                           .draft_method = VLY_DRAFT_NONE,
                           .on_tokens = on_tokens,
                           .on_finish = on_finish,
                           .arg = g};
    if (drafting) {
        request.draft_method = method_of(c);
        request.draft_max = lengths[c->level[K]];
    }
    vly_sequence *sequence;
    vly_error err;
    if (vly_engine_start(engine, &request, &sequence, NULL, NULL, &err) ||
        vly_engine_run(engine, &err))
        fail_msg("%s", err.message);
    assert_true(g->finished);
    return g;
}

/* ---- what the cases came to ---- */

static struct {
    uint32_t drafted[VLY_N_DRAFT_METHODS], accepted[VLY_N_DRAFT_METHODS], n_tokens;
    /* Blocks that dropped tokens: behind which place of a page, and over the end of one. */
    uint32_t cut_at[PAGE], n_cut_across;
} seen;

/* Drafted by the model alone, blocks have a known length wherever there is room. */
static void count_cuts(const generation *g, uint32_t k)
{
    uint32_t at = g->stats.prompt_tokens;
    uint32_t end = at + g->n_ids;
    for (uint32_t i = 0; i < g->n_blocks; i++) {
        uint32_t kept = at + g->block[i], proposed = at + k;
        if (proposed < end && kept < proposed + 1) {
            seen.cut_at[kept % PAGE]++;
            seen.n_cut_across += kept / PAGE != proposed / PAGE;
        }
        at = kept;
    }
}

static void describe(const test_case *c, char *to, size_t size)
{
    static const char *const filters[] = {"no filter", "top-k",     "top-p",
                                          "min-p",     "penalties", "bias"};
    static const char *const pairs[] = {"the shipped pair", "the target as its own draft",
                                        "the pair turned round", "the draft as its own"};
    static const char *const texts[] = {"short", "repeating", "longer than a chunk",
                                        "to the end of the context", "a long text"};
    snprintf(to, size, "%s, %s, temperature %g, %s, k = %u, %s cache, %s%s",
             vly_draft_method_name(method_of(c)), pairs[c->level[PAIR]],
             (double)temperatures[c->level[TEMPERATURE]], filters[c->level[FILTER]],
             lengths[c->level[K]], c->level[KV] ? "f16" : "int8", texts[c->level[TEXT]],
             c->level[LOGPROBS] ? ", log-probabilities" : "");
}

static void check_case(const test_case *c, const generation *plain, const generation *drafted)
{
    char what[256];
    describe(c, what, sizeof what);
    uint32_t n = plain->n_ids < drafted->n_ids ? plain->n_ids : drafted->n_ids;
    for (uint32_t i = 0; i < n; i++)
        if (plain->ids[i] != drafted->ids[i] ||
            memcmp(&plain->logprob[i], &drafted->logprob[i], sizeof *plain->logprob) != 0)
            fail_msg("%s: token %u is %u (%a), and without drafting %u (%a)", what, i,
                     drafted->ids[i], (double)drafted->logprob[i], plain->ids[i],
                     (double)plain->logprob[i]);
    if (plain->n_ids != drafted->n_ids || plain->finish != drafted->finish ||
        plain->len != drafted->len || memcmp(plain->text, drafted->text, plain->len) != 0)
        fail_msg("%s: %u tokens, %s, and without drafting %u, %s", what, drafted->n_ids,
                 vly_finish_name(drafted->finish), plain->n_ids, vly_finish_name(plain->finish));

    const vly_stats *s = &drafted->stats;
    assert_int_equal(plain->stats.drafted, 0);
    if (c->level[TEXT] == LONGER_THAN_A_CHUNK) assert_true(s->prompt_tokens > CHUNK);
    if (c->level[TEXT] == CONTEXT_FILLED) {
        assert_int_equal(s->prompt_tokens + drafted->n_ids, SMALL_N_CTX);
        assert_int_equal(drafted->finish, VLY_FINISH_LENGTH);
    }
    seen.n_tokens += drafted->n_ids;
    for (int m = 0; m < VLY_N_DRAFT_METHODS; m++) {
        seen.drafted[m] += s->drafted_by_method[m];
        seen.accepted[m] += s->accepted_by_method[m];
    }
    if (method_of(c) == VLY_DRAFT_MODEL) count_cuts(drafted, lengths[c->level[K]]);
}

/* ---- running them ---- */

static vly_engine *create(uint32_t pair, bool kv_f16, bool small, bool drafting)
{
    vly_engine *e;
    vly_error err;
    vly_engine_options o = {.target = pair < 2 ? target : draft,
                            .draft = pair == 1 || pair == 2 ? target : draft,
                            .n_ctx = small ? SMALL_N_CTX : N_CTX,
                            .kv_f16 = kv_f16};
    if (!drafting) o.draft = NULL;
    if (vly_engine_create(&o, &e, &err)) fail_msg("%s", err.message);
    return e;
}

/* The cases that these engines serve. */
static void run_group(const test_case *cases, size_t n, uint32_t pair, uint32_t kv, bool small)
{
    vly_engine *plain = NULL, *drafting = NULL;
    for (size_t i = 0; i < n; i++) {
        const test_case *c = &cases[i];
        if (c->level[PAIR] != pair || c->level[KV] != kv ||
            (c->level[TEXT] == CONTEXT_FILLED) != small)
            continue;
        if (!plain) plain = create(pair, kv, small, false);
        if (!drafting) drafting = create(pair, kv, small, true);
        generation *without = generate(plain, c, i, false);
        generation *with = generate(drafting, c, i, true);
        check_case(c, without, with);
        free(without);
        free(with);
    }
    vly_engine_destroy(plain);
    vly_engine_destroy(drafting);
}

static void speculation_changes_no_text(void **state)
{
    (void)state;
    static test_case cases[MAX_CASES];
    size_t n = make_cases(cases);
    for (uint32_t pair = 0; pair < N_PAIRS; pair++)
        for (uint32_t kv = 0; kv < 2; kv++)
            for (int small = 0; small < 2; small++) run_group(cases, n, pair, kv, small);
    print_message("%zu cases, %u tokens\n", n, seen.n_tokens);
    assert_true(seen.n_tokens > 20 * n);
}

/* Blocks of the model, cut back wherever the target disagrees. */
static void blocks_are_cut_back_anywhere_in_a_page(void **state)
{
    (void)state;
    test_case cases[4] = {0};
    for (uint32_t i = 0; i < 4; i++) {
        cases[i].level[METHOD] = level_of_model();
        cases[i].level[TEMPERATURE] = 2;
        cases[i].level[K] = 1 + i % 2;
        cases[i].level[KV] = i / 2;
        cases[i].level[TEXT] = LONG_TEXT;
    }
    for (uint32_t kv = 0; kv < 2; kv++) run_group(cases, 4, 0, kv, false);
    uint32_t n_cut = 0, n_places = 0;
    for (int p = 1; p < PAGE; p++) {
        n_cut += seen.cut_at[p];
        n_places += seen.cut_at[p] > 0;
    }
    print_message("%u blocks cut back inside a page, at %u places, %u over the end of one\n", n_cut,
                  n_places, seen.n_cut_across);
    assert_true(n_cut >= 100 && n_places >= 28 && seen.n_cut_across >= 10);
}

/* Equal texts tell something only where tokens were drafted, accepted, and dropped. */
static void every_method_was_right_and_wrong(void **state)
{
    (void)state;
    const vly_draft_method proposing[] = {VLY_DRAFT_MODEL, VLY_DRAFT_TEXT, VLY_DRAFT_NGRAM};
    for (int m = 0; m < 3; m++) {
        uint32_t drafted = seen.drafted[proposing[m]], accepted = seen.accepted[proposing[m]];
        print_message("%s: %u of %u accepted\n", vly_draft_method_name(proposing[m]), accepted,
                      drafted);
        assert_true(accepted > 0 && accepted < drafted);
    }
}

/* ---- the models ---- */

static int write_target(void **state)
{
    (void)state;
    vly_gguf *gguf;
    vly_error err;
    int fd = mkstemp(target);
    if (fd < 0 || close(fd)) return -1;
    if (vly_gguf_open("models/stories15M-q8_0.gguf", &gguf, &err)) return -1;
    gguf_copy_with_number(gguf, "llama.context_length", N_CTX, target);
    vly_gguf_close(gguf);
    return 0;
}

static int remove_target(void **state)
{
    (void)state;
    return unlink(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speculation_changes_no_text),
        cmocka_unit_test(blocks_are_cut_back_anywhere_in_a_page),
        cmocka_unit_test(every_method_was_right_and_wrong),
    };
    return cmocka_run_group_tests(tests, write_target, remove_target);
}
