/* bench spec: sets of prompts, and the three acceptance rules. */
#include "bench/prompts.h"
#include "bench/spec.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- rules ---- */

#define N 40

static uint64_t state = 1;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(state >> 11) + 0.5) / 9007199254740992.0;
}

/* A distribution over N tokens, some of them impossible. */
static void make(float *out, double sharpness)
{
    double sum = 0, weight[N];
    for (int i = 0; i < N; i++) {
        weight[i] = uniform() < 0.2 ? 0 : exp(sharpness * uniform());
        sum += weight[i];
    }
    for (int i = 0; i < N; i++) out[i] = (float)(weight[i] / sum);
}

static int pick(const float *p, const double *noise)
{
    int best = 0;
    for (int i = 1; i < N; i++)
        if (log((double)p[i]) + noise[i] > log((double)p[best]) + noise[best]) best = i;
    return best;
}

/* How often the picks under the same Gumbel noise are one and the same. */
static double simulate_keyed(const float *p, const float *q, int n)
{
    int same = 0;
    for (int i = 0; i < n; i++) {
        double noise[N];
        for (int t = 0; t < N; t++) noise[t] = -log(-log(uniform()));
        same += pick(p, noise) == pick(q, noise);
    }
    return (double)same / n;
}

static void test_rules(void **unused)
{
    (void)unused;
    for (int round = 0; round < 8; round++) {
        float p[N], q[N];
        vly_spec_pair pairs[N];
        double out[VLY_N_RULES], rejection = 0, keyed = 0;
        int likeliest = 0;
        make(p, 2.0 + round);
        make(q, 2.0 + round);
        for (int i = 0; i < N; i++) {
            pairs[i] = (vly_spec_pair){p[i], q[i], 0};
            rejection += fmin((double)p[i], (double)q[i]);
            if (q[i] > q[likeliest]) likeliest = i;
            double sum = 0;
            for (int s = 0; s < N && p[i] > 0 && q[i] > 0; s++)
                sum += fmax((double)p[s] / (double)p[i], (double)q[s] / (double)q[i]);
            if (sum > 0) keyed += 1 / sum;
        }
        vly_spec_acceptance(pairs, N, out);
        assert_true(fabs(out[VLY_RULE_REJECTION] - rejection) < 1e-6);
        assert_true(fabs(out[VLY_RULE_GREEDY] - (double)p[likeliest]) < 1e-6);
        assert_true(fabs(out[VLY_RULE_KEYED] - keyed) < 1e-6);
        /* Four standard deviations of 20,000 trials. */
        assert_true(fabs(out[VLY_RULE_KEYED] - simulate_keyed(p, q, 20000)) < 4 * 0.0036);
        assert_true(out[VLY_RULE_KEYED] <= out[VLY_RULE_REJECTION] + 1e-6);
    }
}

static void test_equal_and_disjoint(void **unused)
{
    (void)unused;
    double out[VLY_N_RULES];
    vly_spec_pair equal[] = {{0.5f, 0.5f, 0}, {0.3f, 0.3f, 0}, {0.2f, 0.2f, 0}};
    vly_spec_acceptance(equal, 3, out);
    assert_true(fabs(out[VLY_RULE_KEYED] - 1) < 1e-6 && fabs(out[VLY_RULE_REJECTION] - 1) < 1e-6);
    assert_true(fabs(out[VLY_RULE_GREEDY] - 0.5) < 1e-6);
    vly_spec_pair apart[] = {{1, 0, 0}, {0, 1, 0}};
    vly_spec_acceptance(apart, 2, out);
    for (int i = 0; i < VLY_N_RULES; i++) assert_true(out[i] == 0);
}

/* ---- prompts ---- */

static int read_text(const char *text, vly_prompts *out, vly_error *err)
{
    char path[] = "/tmp/vly_prompts_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    *out = (vly_prompts){0};
    int rc = vly_prompts_read(path, out, err);
    unlink(path);
    return rc;
}

static void test_prompts(void **unused)
{
    (void)unused;
    vly_prompts set;
    vly_error err;
    assert_int_equal(read_text("{\"category\":\"a\",\"turns\":[\"x\",\"y\\u00e9\"],\"more\":1}\n\n"
                               "{\"turns\":[\"\"]}",
                               &set, &err),
                     0);
    assert_int_equal(set.n, 2);
    assert_string_equal(set.items[0].category, "a");
    assert_int_equal(set.items[0].n_turns, 2);
    assert_string_equal(set.items[0].turns[1].data, "y\xC3\xA9");
    assert_string_equal(set.items[1].category, "");
    assert_string_equal(set.items[1].turns[0].data, "");
    vly_prompts_deinit(&set);
}

static void test_bad_prompts(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"",
                                      "\n \n",
                                      "x",
                                      "{}",
                                      "{\"turns\":[]}",
                                      "{\"turns\":\"x\"}",
                                      "{\"turns\":[1]}",
                                      "{\"turns\":[\"a\"]}\n[]",
                                      "{\"turns\":[\"a\"]} {\"turns\":[\"b\"]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        vly_prompts set;
        vly_error err;
        int rc = read_text(bad[i], &set, &err);
        if (rc != VLY_E_FORMAT) fail_msg("%s: got %d", bad[i], rc);
        vly_prompts_deinit(&set);
    }
}

static void test_selection(void **unused)
{
    (void)unused;
    for (size_t limit = 0; limit <= 12; limit++) {
        vly_prompts set;
        vly_error err;
        bool keep[10];
        assert_int_equal(read_text("{\"turns\":[\"0\"]}\n{\"turns\":[\"1\"]}\n{\"turns\":[\"2\"]}\n"
                                   "{\"turns\":[\"3\"]}\n{\"turns\":[\"4\"]}\n{\"turns\":[\"5\"]}\n"
                                   "{\"turns\":[\"6\"]}\n{\"turns\":[\"7\"]}\n{\"turns\":[\"8\"]}\n"
                                   "{\"turns\":[\"9\"]}\n",
                                   &set, &err),
                         0);
        for (size_t i = 0; i < 10; i++) keep[i] = i != 0 && i != 5;
        vly_prompts_select(&set, keep, limit);
        assert_int_equal(set.n, limit && limit < 8 ? limit : 8);
        for (size_t i = 0; i < set.n; i++) {
            int at = set.items[i].turns[0].data[0] - '0';
            assert_true(keep[at]);
            assert_true(i == 0 || at > set.items[i - 1].turns[0].data[0] - '0');
        }
        if (limit == 2) assert_string_equal(set.items[1].turns[0].data, "6");
        vly_prompts_deinit(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),     cmocka_unit_test(test_equal_and_disjoint),
        cmocka_unit_test(test_prompts),   cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_selection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
