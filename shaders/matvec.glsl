// What the forms of the matrix-vector kernel share: constants, the norm's factor, and what is done with
// each row pair. Rows come in pairs: (even, odd) of a rotated head, (gate, up), or just neighbours.
#ifndef HALF_X
#define HALF_X 0 // 1: the tile form, which reads and writes x as f16
#endif
#ifndef CHAINED
#define CHAINED 0 // 1: inputs are tagged (chain.glsl)
#endif
#ifndef TAGS
#define TAGS 0 // 1: outputs may be, and are where the step has a number to tag them with
#endif
layout(constant_id = VLY_MATVEC_ROLE) const uint ROLE = 0;
layout(constant_id = VLY_MATVEC_COLUMNS) const uint COLUMNS = 1;
#ifndef MATVEC_OPERANDS // else a variable, p
layout(push_constant, scalar) uniform Push { vly_push_matvec p; };
#endif
#if TAGS
#include "chain.glsl"
#endif

uint column_index(uint c)
{
    return gl_WorkGroupID.y * COLUMNS + c;
}

// Columns that there are; the rest of the last workgroup's are computed and dropped.
uint n_columns()
{
    return ROLE == VLY_ROLE_LOGITS ? p.step.s.n_rows : p.step.s.n_tok;
}

// Token whose activations are column i.
uint column_token(uint i)
{
    return ROLE == VLY_ROLE_LOGITS ? p.step.s.row[min(i, VLY_MAX_BATCH - 1u)] : i;
}

// 1 / rms of a token's x, from the partial sums of squares that its producer left. The norm is one
// factor of the whole product, so it is applied to the sums and never to x. Called by a whole subgroup.
float add_part(float squares, vec4 part)
{
    precise float more = squares + ((part.x + part.y) + (part.z + part.w));
    return more;
}

float norm_of_squares(float squares)
{
    precise float mean = subgroupAdd(squares) / float(p.dim);
    return inversesqrt(mean + p.norm_epsilon);
}

vec4 read_squares(uint token, uint part)
{
#if CHAINED
    return chain_await_quad(p.norm_quad + (token * p.norm_parts + part) * 2u, p.chain.read);
#elif TAGS
    return READ_FRESH(p.norm_quad + token * p.norm_parts + part);
#else
    return READ_ACT(p.norm_quad + token * p.norm_parts + part);
#endif
}

float norm_factor(uint token)
{
    if (p.norm_parts == 0u) return 1.0;
    float squares = 0.0;
    for (uint i = gl_SubgroupInvocationID; i < p.norm_parts; i += gl_SubgroupSize)
        squares = add_part(squares, read_squares(token, i));
    return norm_of_squares(squares);
}

void store_pair(uint quad, uint stride, uint token, uint pair, vec2 y)
{
#if TAGS
    if (p.chain.written != 0u) {
        chain_store_pair(quad + token * stride * 2u + pair, y);
        return;
    }
#endif
    RefAct2(uvec2(p.act)).at[(quad + token * stride) * 2u + pair] = y;
}

// Pair `i` of the numbers that begin at a quad.
vec2 read_pair(uint quad, uint i)
{
    vec4 two = READ_ACT(quad + i / 2u);
    return (i & 1u) != 0u ? two.zw : two.xy;
}

// What a row pair's epilogue reads beside the sums; kernels may fetch it long before these are there.
struct pair_operands {
    vec2 a, b; // QKV: (cos, sin). ADD: x, weights of the next norm
    vec2 bias;
};

pair_operands load_operands(uint token, uint pair)
{
    pair_operands o = pair_operands(vec2(1.0, 0.0), vec2(0.0), vec2(0.0));
    uint row = p.row_base + pair * 2u;
    if (ROLE == VLY_ROLE_QKV && row < p.extra[0])
        o.a = read_pair(p.extra[2], p.step.s.token[token].pos * (p.extra[1] / 2u) + row % p.extra[1] / 2u);
    if (ROLE == VLY_ROLE_ADD) {
#if TAGS
        if (p.chain.residual != 0u)
            o.a = uintBitsToFloat(chain_await(p.out_quad + token * p.out_stride * 2u + pair, p.chain.residual));
        else
            o.a = RefFresh2(uvec2(p.act)).at[(p.out_quad + token * p.out_stride) * 2u + pair];
#else
        o.a = RefAct2(uvec2(p.act)).at[(p.out_quad + token * p.out_stride) * 2u + pair];
#endif
        o.b = read_pair(p.extra[1], pair);
    }
    // Biases count from row 0 of all matrices that share the outputs.
    if (ROLE != VLY_ROLE_LOGITS && p.bias_quad != 0u) o.bias = read_pair(p.bias_quad, row / 2u);
    return o;
}

vec2 biased(vec2 y, pair_operands o)
{
    if (p.bias_quad == 0u) return y;
    precise vec2 sum_ = y + o.bias;
    return sum_;
}

// Rotary embedding of a row pair: Su et al., arXiv 2104.09864; cos and sin come from a table.
vec2 rotate(vec2 y, uint row, vec2 cs)
{
    if (row >= p.extra[0]) return y;
    precise float a = y.x * cs.x, b = y.x * cs.y;
    return vec2(fma(-y.y, cs.y, a), fma(y.y, cs.x, b));
}

#if HALF_X
// Word `i` of a token's f16s, which a later product reads.
void store_half_word(uint quad, uint stride, uint token, uint i, uint word)
{
#if TAGS
    if (p.chain.written != 0u) {
        chain_store(quad + token * stride * 2u, i, word);
        return;
    }
#endif
    RefU1(uvec2(p.act)).at[(quad + token * stride) * 4u + i] = word;
}
#endif

// A pair of values that a later product reads.
void store_x_pair(uint quad, uint stride, uint token, uint pair, vec2 v)
{
#if HALF_X
    store_half_word(quad, half_stride(p.rows), token, half_word(pair), half_pair(v));
#else
    store_pair(quad, stride, token, pair, v);
#endif
}

// QKV.
void finish_qkv(uint token, uint pair, vec2 y, pair_operands o)
{
    uint row = p.row_base + pair * 2u;
    store_pair(p.out_quad, p.out_stride, token, row / 2u, rotate(biased(y, o), row, o.a));
}

// ADD: the residual stream and the next norm's input. The sum of the pair's squares.
float finish_add(uint token, uint pair, vec2 y, pair_operands o)
{
    precise vec2 x = o.a + biased(y, o);
#if TAGS
    if (p.chain.residual != 0u) {
        uint tag = chain_epoch + p.chain.residual + 1u, at = p.out_quad + token * p.out_stride * 2u + pair;
        chain_store_pair_as(at, x, tag);
    } else
#endif
        RefAct2(uvec2(p.act)).at[(p.out_quad + token * p.out_stride) * 2u + pair] = x;
    precise vec2 xn = x * o.b;
    store_x_pair(p.extra[0], p.out_stride, token, pair, xn);
    precise float squares = x.y * x.y;
    return fma(x.x, x.x, squares);
}

// SWIGLU: silu(gate) * up. Shazeer, arXiv 2002.05202.
float swiglu(vec2 y, pair_operands o)
{
    y = biased(y, o);
    precise float h = y.x / (1.0 + exp(-y.x)) * y.y;
    return h;
}

void finish_swiglu(uint token, uint pair, vec2 y, pair_operands o)
{
    RefAct1(uvec2(p.act)).at[(p.out_quad + token * p.out_stride) * 4u + pair] = swiglu(y, o);
}

// LOGITS: rows that are only padding are minus infinity.
vec2 finish_logits(uint row_of_logits, uint pair, vec2 y)
{
    vec2 l = vec2(pair * 2u < p.rows_used ? y.x : NEGATIVE_INFINITY,
                  pair * 2u + 1u < p.rows_used ? y.y : NEGATIVE_INFINITY);
    store_pair(p.out_quad, p.out_stride, row_of_logits, pair, l);
    return l;
}

float column_temperature(uint token)
{
    return p.step.s.sampling[p.step.s.token[token].slot].temperature;
}

// A pair's share of the row block's sum of exp((l - high) / T).
float exp_share(vec2 l, float high, float temperature)
{
    precise float share = exp((l.x - high) / temperature) + exp((l.y - high) / temperature);
    return share;
}

void store_squares(uint token, uint block, float squares)
{
#if TAGS
    if (p.chain.written != 0u) {
        chain_store(p.extra[2] + token * p.extra[3] * 2u, block, floatBitsToUint(squares));
        return;
    }
#endif
    RefAct1(uvec2(p.act)).at[(p.extra[2] + token * p.extra[3]) * 4u + block] = squares;
}

void store_stats(uint row_of_logits, uint block, float high, float sum)
{
    store_pair(p.extra[0], p.extra[1], row_of_logits, block, vec2(high, sum));
}
