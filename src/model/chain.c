/* Chained steps (shaders/chain.glsl): tried when a model is loaded, with bounded waits, and kept
 * only where they work and are faster than barriers. */
#include "base/log.h"
#include "model/model_internal.h"

#include <math.h>
#include <stdlib.h>

/* Quads of x, of all tokens, that a product has room for in 48 KiB of shared memory. */
#define X_QUADS 1900
/* Of each kind, in turns. A clock that rises meanwhile favours none: what counts is how a kind
 * compares to barriers in the same round, and of that the median. */
#define ROUNDS 15

typedef struct {
    vly_gpu_commands *layers[VLY_N_CHAINS]; /* NULL: cannot be chained so */
    vly_gpu_commands *mark[2];              /* time marks before and behind */
    double us[VLY_N_CHAINS][ROUNDS];
} trial;

bool vly_chain_fits(const vly_model *m, vly_chain_kind kind, uint32_t n)
{
    const vly_model_config *c = &m->config;
    const vly_act_layout *at = &m->at;
    uint32_t most = at->att_stride;
    bool whole_units = c->dim % VLY_TILE_UNIT == 0 && c->n_head * c->head_dim % VLY_TILE_UNIT == 0;
    if (kind == VLY_CHAIN_ALL) {
        if (at->ff_stride > most) most = at->ff_stride;
        if (at->xn_stride > most) most = at->xn_stride;
        whole_units = whole_units && c->ff_dim % VLY_TILE_UNIT == 0;
    }
    return kind == VLY_CHAIN_NONE || (m->geometry.tile_form && n <= VLY_MAX_FRESH && whole_units &&
                                      !at->qk_norms && !at->post_norms && n * most <= X_QUADS);
}

static int record(vly_model *m, trial *t, vly_error *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < VLY_N_CHAINS; i++) {
        m->geometry.chain = (vly_chain_kind)i;
        if (!vly_chain_fits(m, m->geometry.chain, 1)) continue;
        rc = vly_gpu_commands_create(m->gpu, "trial of chained steps", &t->layers[i], err);
        if (rc == 0) rc = vly_forward_record(m, VLY_PASS_LAYERS, 1, t->layers[i], NULL, err);
        if (rc == 0) rc = vly_gpu_commands_end(t->layers[i], err);
    }
    m->geometry.chain = VLY_CHAIN_NONE;
    for (int i = 0; rc == 0 && i < 2; i++) {
        rc = vly_gpu_commands_create(m->gpu, "time mark", &t->mark[i], err);
        if (rc) break;
        vly_gpu_cmd_timestamp(t->mark[i], 0);
        rc = vly_gpu_commands_end(t->mark[i], err);
    }
    return rc;
}

/* Device time of the layers over one token. */
static int run(vly_model *m, trial *t, int kind, int round, vly_error *err)
{
    vly_gpu_commands *const list[3] = {t->mark[0], t->layers[kind], t->mark[1]};
    uint64_t ticket, at[2] = {0, 0};
    int rc = vly_gpu_submit(m->gpu, list, 3, NULL, NULL, &ticket, err);
    if (rc == 0) rc = vly_gpu_wait(m->gpu, ticket, err);
    for (int i = 0; rc == 0 && i < 2; i++) rc = vly_gpu_commands_times(t->mark[i], 1, &at[i], err);
    t->us[kind][round] = (double)(at[1] - at[0]) * 1e-3;
    return rc;
}

static int run_all(vly_model *m, trial *t, vly_error *err)
{
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    step->n_tok = 1;
    step->token[0] = (struct vly_step_token){0};
    int rc = record(m, t, err);
    for (int i = 0; rc == 0 && i < VLY_N_CHAINS * ROUNDS && !step->stalled; i++)
        if (t->layers[i % VLY_N_CHAINS]) rc = run(m, t, i % VLY_N_CHAINS, i / VLY_N_CHAINS, err);
    return rc;
}

static void discard(const trial *t)
{
    for (int i = 0; i < VLY_N_CHAINS; i++)
        if (t->layers[i]) vly_gpu_commands_destroy(t->layers[i]);
    for (int i = 0; i < 2; i++)
        if (t->mark[i]) vly_gpu_commands_destroy(t->mark[i]);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What a kind takes, barriers taking 1; none where it cannot be. */
static double share(const trial *t, int kind)
{
    double of[ROUNDS];
    if (!t->layers[kind]) return INFINITY;
    for (int i = 0; i < ROUNDS; i++) of[i] = t->us[kind][i] / t->us[VLY_CHAIN_NONE][i];
    qsort(of, ROUNDS, sizeof *of, compare);
    return of[ROUNDS / 2];
}

int vly_chain_choose(vly_model *m, vly_error *err)
{
    static const char *const names[VLY_N_CHAINS] = {"none", "attention", "all"};
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    trial t = {0};
    vly_kv_seq seq = {0};
    if (!vly_chain_fits(m, VLY_CHAIN_ATTENTION, 1) || vly_gpu_get_info(m->gpu)->timestamp_ns <= 0)
        return 0;
    int rc = vly_kv_seq_init(m->kv, &seq, err);
    if (rc == 0) rc = vly_kv_reserve(&seq, 1, err);
    if (rc == 0) rc = run_all(m, &t, err);
    vly_kv_seq_deinit(&seq);
    double taken[VLY_N_CHAINS];
    for (int i = 0; i < VLY_N_CHAINS; i++) {
        taken[i] = share(&t, i);
        if (!step->stalled && taken[i] < taken[m->geometry.chain])
            m->geometry.chain = (vly_chain_kind)i;
    }
    discard(&t);
    if (rc) return rc;
    vly_log(VLY_LOG_INFO, "model",
            "%s: layers over a token take %.0f us with barriers, %.2f of that with attention "
            "chained, %.2f with all%s; chained: %s",
            m->config.name, t.us[0][ROUNDS - 1], taken[1], taken[2],
            step->stalled ? ", stalled" : "", names[m->geometry.chain]);
    step->stalled = 0;
    return 0;
}

bool vly_model_stalled(const vly_model *m)
{
    for (int i = 0; i < VLY_N_STEP_BUFFERS; i++)
        if (((const struct vly_step *)m->step[i].mapped)->stalled) return true;
    return false;
}
