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

#define QKV       (1u << VLY_STEP_QKV)
#define ATTENTION (1u << VLY_STEP_ATTENTION)
#define OUT       (1u << VLY_STEP_OUT)
#define GATE_UP   (1u << VLY_STEP_GATE_UP)
#define DOWN      (1u << VLY_STEP_DOWN)

/* Small steps gain most. A linked product reads all of x before it begins, in twice as many bytes,
 * so that large ones lose. */
static const struct {
    const char *name;
    uint32_t links;
} chains[] = {
    {"none", 0},
    {"attention", ATTENTION | OUT},
    {"all", QKV | ATTENTION | OUT | GATE_UP | DOWN},
};
#define N_CHAINS ((int)(sizeof chains / sizeof *chains))

typedef struct {
    vly_gpu_commands *layers[N_CHAINS]; /* NULL: cannot be chained so */
    vly_gpu_commands *mark[2];          /* time marks before and behind */
    double us[N_CHAINS][ROUNDS];
} trial;

uint32_t vly_chain_links(const vly_model *m, uint32_t n)
{
    const vly_model_config *c = &m->config;
    const vly_act_layout *at = &m->at;
    const uint32_t links = m->geometry.links;
    uint32_t most = at->att_stride;
    bool whole_units = c->dim % VLY_TILE_UNIT == 0 && c->n_head * c->head_dim % VLY_TILE_UNIT == 0;
    if (links & (QKV | GATE_UP) && at->xn_stride > most) most = at->xn_stride;
    if (links & DOWN) {
        if (at->ff_stride > most) most = at->ff_stride;
        whole_units = whole_units && c->ff_dim % VLY_TILE_UNIT == 0;
    }
    bool fits = m->geometry.tile_form && n <= VLY_MAX_FRESH && whole_units && !at->qk_norms &&
                !at->post_norms && n * most <= X_QUADS;
    return fits ? links : 0;
}

static int record(vly_model *m, trial *t, vly_error *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < N_CHAINS; i++) {
        m->geometry.links = chains[i].links;
        if (vly_chain_links(m, 1) != chains[i].links) continue;
        rc = vly_gpu_commands_create(m->gpu, "trial of chained steps", &t->layers[i], err);
        if (rc == 0) rc = vly_forward_record(m, VLY_PASS_LAYERS, 1, t->layers[i], NULL, err);
        if (rc == 0) rc = vly_gpu_commands_end(t->layers[i], err);
    }
    m->geometry.links = 0;
    for (int i = 0; rc == 0 && i < 2; i++) rc = vly_gpu_mark_create(m->gpu, &t->mark[i], err);
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
    for (int i = 0; rc == 0 && i < N_CHAINS * ROUNDS && !step->stalled; i++)
        if (t->layers[i % N_CHAINS]) rc = run(m, t, i % N_CHAINS, i / N_CHAINS, err);
    return rc;
}

static void discard(const trial *t)
{
    for (int i = 0; i < N_CHAINS; i++)
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
    for (int i = 0; i < ROUNDS; i++) of[i] = t->us[kind][i] / t->us[0][i];
    qsort(of, ROUNDS, sizeof *of, compare);
    return of[ROUNDS / 2];
}

int vly_chain_choose(vly_model *m, vly_error *err)
{
    struct vly_step *step = m->step[VLY_STEP_BUFFER_DECODE].mapped;
    trial t = {0};
    vly_kv_seq seq = {0};
    m->geometry.links = ATTENTION;
    bool can = vly_chain_links(m, 1) && vly_gpu_get_info(m->gpu)->timestamp_ns > 0;
    m->geometry.links = 0;
    if (!can) return 0;
    int rc = vly_kv_seq_init(m->kv, &seq, err);
    if (rc == 0) rc = vly_kv_reserve(&seq, 1, err);
    if (rc == 0) rc = run_all(m, &t, err);
    vly_kv_seq_deinit(&seq);
    discard(&t);
    if (rc) return rc;
    int best = 0;
    for (int i = 1; i < N_CHAINS && !step->stalled; i++) {
        double taken = share(&t, i);
        if (taken < share(&t, best)) best = i;
        vly_log(VLY_LOG_DEBUG, "model", "%s: layers with steps chained, %s: %.2f of with barriers",
                m->config.name, chains[i].name, taken);
    }
    m->geometry.links = chains[best].links;
    vly_log(VLY_LOG_INFO, "model",
            "%s: layers over a token take %.0f us with barriers; chained%s: %s", m->config.name,
            t.us[0][ROUNDS - 1], step->stalled ? " (they stalled)" : "", chains[best].name);
    step->stalled = 0;
    return 0;
}

bool vly_model_stalled(const vly_model *m)
{
    for (int i = 0; i < VLY_N_STEP_BUFFERS; i++)
        if (((const struct vly_step *)m->step[i].mapped)->stalled) return true;
    return false;
}
