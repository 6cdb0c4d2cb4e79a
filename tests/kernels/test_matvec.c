/* The matrix-vector kernels: every format, form and role against sums in double, and the bits of a
 * column whatever other columns are computed with it. */
#include "model/repack.h"
#include "tests/support/kernel_fixture.h"
#include "tests/support/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LANE, GROUP, DOT, N_FORMS };
static const char *const form_names[] = {"lane", "group", "dot"};

/* -1 where the format has no such form. */
static int shader_of(vly_format_id format, int form)
{
    const vly_layout *layout = vly_layout_of(format);
    if (!layout) return -1;
    return form == LANE ? layout->lane : form == GROUP ? layout->group : layout->dot;
}

static const char *const role_names[] = {"qkv", "add", "swiglu", "logits"};

#define GROUPS      4 /* subgroups of a workgroup, where there are several */
#define EPSILON     0.05f
#define TEMPERATURE 0.8f

/* What one run computes. */
typedef struct {
    vly_format_id format;
    int form;
    uint32_t role, columns, pairs, rows, k, n_tok; /* n_tok: of LOGITS, rows of logits */
    uint32_t odd; /* rows that are there only to make the count even: 0 or 1, for LOGITS */
} shape;

/* Its operands, and where they lie. Tokens are padded to whole workgroups, as a model's are. */
typedef struct {
    shape s;
    reference_matrix w;
    float *x, *rope, *norm_weights, *old, *bias;
    uint32_t n_padded, head_dim, rotated, norm_parts, n_out, token[VLY_MAX_COLUMNS];
    uint32_t pos[VLY_MAX_COLUMNS];
    uint32_t width, x_blocks, n_blocks, block_rows;
    struct vly_push_matvec push;
    uint32_t out_begin, out_end; /* all that the kernel may write */
} operands;

static float *numbers(uint64_t *random, size_t n)
{
    float *out = malloc(n * sizeof *out);
    assert_non_null(out);
    reference_normals(random, out, n);
    return out;
}

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* The outputs of the role, one region after the other. */
static void place_outputs(operands *o, uint64_t *random)
{
    struct vly_push_matvec *p = &o->push;
    const shape *s = &o->s;
    uint32_t padded_rows = o->n_blocks * o->block_rows, next = ceil_div(o->n_blocks, 4) + 1;
    o->n_out = s->role == VLY_ROLE_SWIGLU ? s->rows / 2 : s->rows;
    p->out_stride = (s->role == VLY_ROLE_LOGITS ? padded_rows / 2 + 1 : ceil_div(o->n_out, 4)) + 2;
    if (s->role == VLY_ROLE_QKV) p->row_base = 2 * o->head_dim;
    p->out_stride += ceil_div(p->row_base, 4);
    uint32_t out_quads = o->n_padded * p->out_stride;
    o->out_begin = p->out_quad = kernel_fixture_take(out_quads);
    if (s->role == VLY_ROLE_QKV) {
        /* Heads of K or Q and then rows of V, which are not rotated: rows are counted from row 0 of
         * Q, K and V together. */
        p->extra[0] = p->row_base + o->rotated;
        p->extra[1] = o->head_dim;
    } else if (s->role == VLY_ROLE_ADD) {
        o->old = numbers(random, (size_t)out_quads * 4);
        memcpy(kernel_fixture_act(p->out_quad), o->old, out_quads * (size_t)16);
        p->extra[0] = kernel_fixture_take(out_quads);
        p->extra[2] = kernel_fixture_take((size_t)o->n_padded * next);
        p->extra[3] = next;
    } else if (s->role == VLY_ROLE_LOGITS) {
        p->extra[1] = next * 2;
        p->extra[0] = kernel_fixture_take((size_t)VLY_MAX_COLUMNS * 2 * p->extra[1]);
    }
    o->out_end = fixture.act_used;
}

/* x as the kernels with 8-bit dot products take it: blocks of 32, scale * (a + b / 256). */
static void round_blocks(float *x, size_t n)
{
    for (size_t b = 0; b < n; b += 32) {
        float high = 0.0f;
        for (size_t i = b; i < b + 32; i++) high = fmaxf(high, fabsf(x[i]));
        float scale = high / 127.0f, inverse = high > 0.0f ? 127.0f / high : 0.0f;
        for (size_t i = b; i < b + 32; i++) {
            float scaled = x[i] * inverse, a = rintf(scaled);
            float rest = fminf(rintf((scaled - a) * 256.0f), 127.0f);
            x[i] = (a + rest / 256.0f) * scale;
        }
    }
}

static operands operands_make(shape s, uint64_t seed)
{
    uint64_t random = seed;
    operands o = {.s = s, .norm_parts = s.role == VLY_ROLE_ADD ? 0 : 3};
    uint32_t lanes = fixture.lanes;
    o.width = s.form == LANE ? (lanes > 32 ? lanes : 32) : GROUPS * lanes;
    o.block_rows = 2 * s.pairs * (s.form == LANE ? lanes : GROUPS);
    uint32_t group_blocks = s.form == LANE ? o.width / lanes : 1;
    o.x_blocks = ceil_div(ceil_div(s.rows, o.block_rows), group_blocks);
    o.n_blocks = o.x_blocks * group_blocks;
    o.n_padded = 2 * VLY_MAX_COLUMNS + s.columns;
    o.head_dim = s.rows >= 32 ? 16 : 2;
    o.rotated = (s.rows - 1) / o.head_dim * o.head_dim;

    kernel_fixture_reset();
    kernel_fixture_take(3);
    struct vly_push_matvec *p = &o.push;
    o.w = reference_matrix_make(&random, s.format, s.rows, s.k);
    p->weights_quad = 5;
    p->scales_word = 16384 * 4 + 3;
    assert_true(80 + o.w.n_part_bytes <= 16384 * 16);
    assert_true(p->scales_word * 4ull + o.w.n_scale_bytes <= fixture.weights.n_bytes);
    memcpy((char *)fixture.weights.mapped + 80, o.w.parts, o.w.n_part_bytes);
    memcpy((char *)fixture.weights.mapped + p->scales_word * 4ull, o.w.scales, o.w.n_scale_bytes);
    p->weights = fixture.weights.address + 80;
    p->scales = fixture.weights.address + p->scales_word * 4ull;
    p->act = fixture.act.address;
    p->step = fixture.step.address;
    p->rows = s.rows;
    p->rows_used = s.rows - s.odd;
    p->blocks = ceil_div(s.k, 32);

    o.x = numbers(&random, (size_t)o.n_padded * s.k);
    p->in_stride = p->blocks * 8 + 1;
    p->in_quad = kernel_fixture_take((size_t)o.n_padded * p->in_stride);
    for (uint32_t t = 0; t < o.n_padded; t++) {
        float *x = kernel_fixture_act(p->in_quad + t * p->in_stride);
        memset(x, 0, p->blocks * 128);
        memcpy(x, o.x + (size_t)t * s.k, s.k * sizeof(float));
    }
    if (s.form == DOT) round_blocks(o.x, (size_t)o.n_padded * s.k);
    /* Parts of sums of squares: any positive numbers, as far as this kernel is concerned. */
    float *norm = numbers(&random, (size_t)o.n_padded * 12);
    for (uint32_t i = 0; i < o.n_padded * 12; i++) norm[i] = norm[i] * norm[i] * 20.0f;
    p->norm_quad = kernel_fixture_put(norm, (size_t)o.n_padded * 12);
    p->norm_parts = o.norm_parts;
    p->norm_epsilon = EPSILON;
    p->dim = 288;
    free(norm);
    o.rope = numbers(&random, 64 * 16);
    p->extra[2] = kernel_fixture_put(o.rope, 64 * 16);
    o.norm_weights = numbers(&random, s.rows);
    uint32_t norm_weights_quad = kernel_fixture_put(o.norm_weights, s.rows);
    /* Of every other operand, and as for row_base, from row 0 of Q, K and V together. */
    uint32_t bias_base = s.role == VLY_ROLE_QKV ? 2 * o.head_dim : 0;
    o.bias = numbers(&random, bias_base + s.rows);
    if (seed % 2 && s.role != VLY_ROLE_LOGITS)
        p->bias_quad = kernel_fixture_put(o.bias, bias_base + s.rows);
    else
        memset(o.bias, 0, (bias_base + s.rows) * sizeof *o.bias);
    place_outputs(&o, &random);
    if (s.role == VLY_ROLE_ADD) p->extra[1] = norm_weights_quad;

    struct vly_step *step = kernel_fixture_step();
    memset(step, 0, sizeof *step);
    step->n_tok = s.role == VLY_ROLE_LOGITS ? 2 * VLY_MAX_COLUMNS : s.n_tok;
    step->n_rows = s.role == VLY_ROLE_LOGITS ? s.n_tok : 0;
    for (uint32_t t = 0; t < 2 * VLY_MAX_COLUMNS; t++) step->token[t].pos = (t * 7 + 3) % 64;
    for (uint32_t i = 0; i < s.n_tok; i++) {
        o.token[i] = s.role == VLY_ROLE_LOGITS ? (i * 5 + 2) % (2 * VLY_MAX_COLUMNS) : i;
        o.pos[i] = step->token[o.token[i]].pos;
        step->row[i] = o.token[i];
        step->token[o.token[i]].slot = i % 3;
    }
    step->sampling[0].temperature = TEMPERATURE;
    step->sampling[1].temperature = 0.0f;
    step->sampling[2].temperature = 2.0f * TEMPERATURE;
    return o;
}

static void operands_free(operands *o)
{
    reference_matrix_free(&o->w);
    free(o->x);
    free(o->rope);
    free(o->norm_weights);
    free(o->old);
    free(o->bias);
}

/* Runs the kernel with `columns` columns to a workgroup. Only outputs may change. */
static void compute(operands *o, uint32_t columns)
{
    const shape *s = &o->s;
    /* Tiles of the kernels with dot products: the least, so that K takes several. */
    uint32_t constants[] = {o->width, s->role, columns, s->pairs, GROUPS, fixture.lanes * 32};
    static const uint32_t n_constants[] = {4, 5, 6};
    size_t before = (size_t)o->out_begin * 16;
    uint8_t *kept = malloc(before);
    assert_non_null(kept);
    memcpy(kept, fixture.act.mapped, before);
    kernel_fixture_run((vly_shader_id)shader_of(s->format, s->form), constants,
                       n_constants[s->form], &o->push, sizeof o->push, o->x_blocks,
                       ceil_div(s->n_tok, columns), 1);
    assert_memory_equal(fixture.act.mapped, kept, before);
    const float *behind = kernel_fixture_act(o->out_end);
    for (int i = 0; i < 4096; i++) assert_true(isnan(behind[i]));
    free(kept);
}

static void expect_near(const operands *o, const char *what, uint32_t i, uint32_t row, float got,
                        double expected, double size)
{
    /* Sums of k products in f32, in whatever order, and the last steps of the role. */
    double bound = (12.0 + sqrt(o->s.k)) * 0x1p-23 * (size + fabs(expected)) + 1e-30;
    /* An x between two of its rounded values may take the other one on another device. */
    if (o->s.form == DOT) bound += 0x1p-14 * size;
    if (fabs((double)got - expected) <= bound) return;
    fail_msg("%s %s, %s, %u columns, %ux%u, column %u, %s %u: %.9g, not %.9g (within %.2g)",
             vly_format_by_id(o->s.format)->name, form_names[o->s.form], role_names[o->s.role],
             o->s.columns, o->s.rows, o->s.k, i, what, row, (double)got, expected, bound);
}

static double factor_of(const operands *o, uint32_t token)
{
    if (!o->norm_parts) return 1.0;
    const float *norm = kernel_fixture_act(o->push.norm_quad + token * o->norm_parts);
    double squares = 0.0;
    for (uint32_t i = 0; i < 4 * o->norm_parts; i++) squares += (double)norm[i];
    return reference_norm_factor(squares, o->push.dim, (double)EPSILON);
}

static void check_add(const operands *o, uint32_t i, const double *y, const double *size)
{
    const struct vly_push_matvec *p = &o->push;
    const float *x = kernel_fixture_act(p->out_quad + i * p->out_stride);
    const float *xn = kernel_fixture_act(p->extra[0] + i * p->out_stride);
    const float *squares = kernel_fixture_act(p->extra[2] + i * p->extra[3]);
    const float *old = o->old + (size_t)i * p->out_stride * 4;
    for (uint32_t r = 0; r < o->s.rows; r++) {
        expect_near(o, "x", i, r, x[r], (double)old[r] + y[r], size[r]);
        expect_near(o, "xn", i, r, xn[r], (double)x[r] * (double)o->norm_weights[r], 0.0);
    }
    for (uint32_t b = 0; b < o->n_blocks; b++) {
        double sum = 0.0;
        for (uint32_t r = b * o->block_rows; r < (b + 1) * o->block_rows && r < o->s.rows; r++)
            sum += (double)x[r] * (double)x[r];
        expect_near(o, "squares", i, b, squares[b], sum, 0.0);
    }
}

static void check_logits(const operands *o, uint32_t i, const double *y, const double *size)
{
    const struct vly_push_matvec *p = &o->push;
    const float *logits = kernel_fixture_act(p->out_quad + i * p->out_stride);
    const float *stats = kernel_fixture_act(p->extra[0] + i * p->extra[1]);
    const struct vly_step *step = kernel_fixture_step();
    double t = (double)step->sampling[step->token[o->token[i]].slot].temperature;
    for (uint32_t r = 0; r < p->rows_used; r++)
        expect_near(o, "logit", i, r, logits[r], y[r], size[r]);
    for (uint32_t r = p->rows_used; r < o->n_blocks * o->block_rows; r++)
        assert_true(logits[r] == -INFINITY);
    for (uint32_t b = 0; b < o->n_blocks; b++) {
        float high = -INFINITY;
        double sum = 0.0;
        for (uint32_t r = 0; r < o->block_rows; r++)
            high = fmaxf(high, logits[b * o->block_rows + r]);
        for (uint32_t r = 0; r < o->block_rows && t > 0.0 && high > -INFINITY; r++)
            sum += exp((double)(logits[b * o->block_rows + r] - high) / t);
        assert_true(stats[2 * b] == high);
        if (fabs((double)stats[2 * b + 1] - sum) > 2e-5 * sum)
            fail_msg("sum of block %u is %g, not %g", b, (double)stats[2 * b + 1], sum);
    }
}

/* Tokens that the step does not have leave no trace, though their columns are computed. */
static void check_no_more_tokens(const operands *o)
{
    const struct vly_push_matvec *p = &o->push;
    uint32_t quad = p->out_quad, stride = p->out_stride;
    if (o->s.role == VLY_ROLE_ADD) {
        quad = p->extra[2];
        stride = p->extra[3];
    } else if (o->s.role == VLY_ROLE_LOGITS) {
        quad = p->extra[0];
        stride = p->extra[1];
    }
    const float *first = kernel_fixture_act(quad + o->s.n_tok * stride);
    for (uint32_t i = 0; i < VLY_MAX_COLUMNS * stride * 4; i++) assert_true(isnan(first[i]));
}

static void check(const operands *o)
{
    const shape *s = &o->s;
    const struct vly_push_matvec *p = &o->push;
    double *y = malloc(2 * s->rows * sizeof *y), *size = y + s->rows;
    assert_non_null(y);
    check_no_more_tokens(o);
    for (uint32_t i = 0; i < s->n_tok; i++) {
        double factor = factor_of(o, o->token[i]);
        for (uint32_t r = 0; r < s->rows; r++) {
            y[r] = factor * reference_dot(o->w.w + (size_t)r * s->k,
                                          o->x + (size_t)o->token[i] * s->k, s->k, &size[r]);
            size[r] *= factor;
            double bias = (double)o->bias[p->row_base + r];
            y[r] += bias;
            size[r] += fabs(bias);
        }
        const float *out = kernel_fixture_act(p->out_quad + i * p->out_stride) + p->row_base;
        if (s->role == VLY_ROLE_QKV) {
            for (uint32_t r = 0; r < s->rows; r += 2) {
                const float *cs = o->rope + o->pos[i] * o->head_dim + r % o->head_dim / 2 * 2;
                double c = r < o->rotated ? (double)cs[0] : 1.0;
                double n = r < o->rotated ? (double)cs[1] : 0.0;
                double both = size[r] + size[r + 1], turn = fabs(c) + fabs(n);
                expect_near(o, "row", i, r, out[r], y[r] * c - y[r + 1] * n, both * turn);
                expect_near(o, "row", i, r + 1, out[r + 1], y[r] * n + y[r + 1] * c, both * turn);
            }
        } else if (s->role == VLY_ROLE_SWIGLU) {
            for (uint32_t r = 0; r < s->rows / 2; r++) {
                double gate = reference_silu(y[2 * r]), up = y[2 * r + 1];
                /* silu' is within -0.1 and 1.1. */
                expect_near(o, "row", i, r, out[r], gate * up,
                            1.1 * size[2 * r] * fabs(up) + fabs(gate) * size[2 * r + 1]);
            }
        } else if (s->role == VLY_ROLE_ADD) {
            check_add(o, i, y, size);
        } else {
            check_logits(o, i, y, size);
        }
    }
    free(y);
}

static uint32_t pairs_of(uint32_t i)
{
    return 1u << i % 3;
}

/* A processor takes seconds to compile a kernel of many rows times many columns, of which models
 * use none (model/forward.c, columns_of). */
static uint32_t most_columns(int form)
{
    return form == LANE ? 8 : VLY_MAX_COLUMNS;
}

/* Weights in a row: not a power of two, few turns of a subgroup; of floats no whole blocks of 32.
 */
static uint32_t k_of(vly_format_id format, uint32_t i)
{
    const uint32_t ks[] = {32, 96, 288, 576}, long_ks[] = {256, 768, 512, 1280};
    const uint32_t float_ks[] = {32, 100, 288, 578};
    uint32_t block = vly_format_by_id(format)->block_weights;
    return block == 256 ? long_ks[i % 4] : block == 32 ? ks[i % 4] : float_ks[i % 4];
}

/* Forms and roles in full, which the formats have nothing to do with; shapes and columns go round.
 */
static void test_roles(void **state)
{
    (void)state;
    const vly_format_id formats[] = {VLY_FORMAT_f16, VLY_FORMAT_q4_k};
    const uint32_t rows[] = {2, 6, 34, 100};
    const uint32_t columns[] = {1, 16, 3, 5}, n_tok[] = {1, 16, 13, 7};
    uint32_t turn = 0;
    for (int f = 0; f < 2; f++)
        for (int form = 0; form < N_FORMS; form++)
            for (uint32_t role = 0; role < 4; role++, turn++)
                for (uint32_t i = 0; i < 4; i++) {
                    if (shader_of(formats[f], form) < 0) continue;
                    /* Two kernels (numbers of columns) of each, four shapes. */
                    uint32_t c = columns[(turn + i / 2) % 4], pairs = pairs_of(turn);
                    if (c > most_columns(form)) c = most_columns(form);
                    while (pairs > 1 && pairs * c > 6) pairs /= 2;
                    /* As models have it. */
                    if (form == LANE && role == VLY_ROLE_ADD && c == 8) pairs = 2;
                    operands o = operands_make(
                        (shape){formats[f], form, role, c, pairs, rows[(i + turn) % 4],
                                k_of(formats[f], i + turn / 4), n_tok[(turn + i) % 4],
                                role == VLY_ROLE_LOGITS && i % 2},
                        turn * 4 + i);
                    compute(&o, o.s.columns);
                    check(&o);
                    operands_free(&o);
                }
}

/* All that a run wrote, to compare bits. */
static float *written(const operands *o)
{
    size_t n = (size_t)(o->out_end - o->out_begin) * 16;
    float *copy = malloc(n);
    assert_non_null(copy);
    memcpy(copy, kernel_fixture_act(o->out_begin), n);
    return copy;
}

/* A token's numbers are right, and the same bits alone and among any others: steps of 1 to 16
 * tokens, with one column to a workgroup and with `columns`. */
static void check_columns(shape s, const uint32_t *columns, size_t n_columns, uint64_t seed)
{
    float *most = NULL;
    for (s.n_tok = VLY_MAX_COLUMNS; s.n_tok > 0; s.n_tok--) {
        operands o = operands_make(s, seed);
        compute(&o, 1);
        if (s.n_tok == VLY_MAX_COLUMNS) check(&o);
        float *alone = written(&o);
        operands_free(&o);
        if (!most) most = alone;
        if (memcmp(most, alone, (size_t)s.n_tok * o.push.out_stride * 16) != 0)
            fail_msg("%s %s, %s: other bits in a step of %u tokens than in one of 16",
                     vly_format_by_id(s.format)->name, form_names[s.form], role_names[s.role],
                     s.n_tok);
        for (size_t i = 0; i < n_columns; i++) {
            o = operands_make(s, seed);
            compute(&o, columns[i]);
            size_t n = (size_t)(o.out_end - o.out_begin) * 16;
            if (memcmp(alone, kernel_fixture_act(o.out_begin), n) != 0)
                fail_msg("%s %s, %s: other bits of %u tokens with %u columns than with 1",
                         vly_format_by_id(s.format)->name, form_names[s.form], role_names[s.role],
                         s.n_tok, columns[i]);
            operands_free(&o);
        }
        if (most != alone) free(alone);
    }
    free(most);
}

/* Every format in one form: numbers of columns, roles and shapes go round. */
static void check_formats(int form)
{
    const uint32_t columns[] = {2, 16, 3, 8, 5, 4, 12, 6}, rows[] = {38, 6, 100, 2};
    uint32_t turn = 0;
    for (int f = 0; f < VLY_N_FORMATS; f++) {
        vly_format_id format = (vly_format_id)f;
        if (shader_of(format, form) < 0) continue;
        uint32_t role = (turn + (uint32_t)form) % 4, c = columns[turn % 8];
        if (c > most_columns(form)) c /= 2;
        for (uint32_t i = 0; i < 4; i++) {
            shape s = {format, form, role, VLY_MAX_COLUMNS, 1, rows[i], k_of(format, turn + i),
                       0,      0};
            check_columns(s, &c, i < 2, 77 + turn);
        }
        turn++;
    }
}

static void test_formats_lane(void **state)
{
    (void)state;
    check_formats(LANE);
}

static void test_formats_group(void **state)
{
    (void)state;
    check_formats(GROUP);
}

static void test_formats_dot(void **state)
{
    (void)state;
    check_formats(DOT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_formats_lane),
        cmocka_unit_test(test_formats_group),
        cmocka_unit_test(test_formats_dot),
    };
    return cmocka_run_group_tests(tests, kernel_fixture_open, kernel_fixture_close);
}
