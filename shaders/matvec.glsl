// What the two forms of the matrix-vector kernel share: constants, the norm's factor, the epilogues.
// Rows come in pairs: (even, odd) of a rotated head, (gate, up), or just neighbours.
layout(constant_id = VLY_MATVEC_ROLE) const uint ROLE = 0;
layout(constant_id = VLY_MATVEC_COLUMNS) const uint COLUMNS = 1;
layout(push_constant, scalar) uniform Push { vly_push_matvec p; };

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
// factor of the whole product, so it is applied to the sums and never to x.
float norm_factor(uint token)
{
    if (p.norm_parts == 0u) return 1.0;
    precise float squares = 0.0;
    uint at = p.norm_quad + token * p.norm_stride;
    for (uint i = gl_SubgroupInvocationID; i < p.norm_parts; i += gl_SubgroupSize) {
        vec4 part = READ_ACT(at + i);
        squares += (part.x + part.y) + (part.z + part.w);
    }
    precise float mean = subgroupAdd(squares) / float(p.dim);
    return inversesqrt(mean + p.norm_epsilon);
}

void store_pair(uint quad, uint stride, uint token, uint pair, vec2 y)
{
    RefAct2(uvec2(p.act)).at[(quad + token * stride) * 2u + pair] = y;
}

// Rotary embedding of a row pair: Su et al., arXiv 2104.09864; cos and sin come from a table.
vec2 rotate(vec2 y, uint row, uint pos)
{
    if (row >= p.extra[0]) return y;
    uint entry = pos * (p.extra[1] / 2u) + (row % p.extra[1]) / 2u;
    vec4 two = READ_ACT(p.extra[2] + entry / 2u);
    vec2 cs = (entry & 1u) != 0u ? two.zw : two.xy;
    precise float a = y.x * cs.x, b = y.x * cs.y;
    return vec2(fma(-y.y, cs.y, a), fma(y.y, cs.x, b));
}

void finish_add(uint token, uint pair, bool live, vec2 y, uint block)
{
    precise float squares = 0.0;
    if (live) {
        uint at = (p.out_quad + token * p.out_stride) * 2u + pair;
        precise vec2 x = RefAct2(uvec2(p.act)).at[at] + y;
        RefAct2(uvec2(p.act)).at[at] = x;
        vec4 two = READ_ACT(p.extra[1] + pair / 2u);
        precise vec2 xn = x * ((pair & 1u) != 0u ? two.zw : two.xy);
        store_pair(p.extra[0], p.out_stride, token, pair, xn);
        squares = fma(x.x, x.x, x.y * x.y);
    }
    squares = subgroupAdd(squares);
    if (subgroupElect())
        RefAct1(uvec2(p.act)).at[(p.extra[2] + token * p.extra[3]) * 4u + block] = squares;
}

void finish_logits(uint row_of_logits, uint pair, bool live, vec2 y, uint token, uint block)
{
    vec2 l = vec2(pair * 2u < p.rows_used ? y.x : NEGATIVE_INFINITY,
                  pair * 2u + 1u < p.rows_used ? y.y : NEGATIVE_INFINITY);
    if (live) store_pair(p.out_quad, p.out_stride, row_of_logits, pair, l);
    float high = subgroupMax(live ? max(l.x, l.y) : NEGATIVE_INFINITY);
    float temperature = p.step.s.sampling[p.step.s.token[token].slot].temperature;
    precise float sum = 0.0;
    if (temperature > 0.0 && high > NEGATIVE_INFINITY) {
        precise float each = live ? exp((l.x - high) / temperature) + exp((l.y - high) / temperature) : 0.0;
        sum = subgroupAdd(each);
    }
    if (subgroupElect())
        store_pair(p.extra[0], p.extra[1], row_of_logits, block, vec2(high, sum));
}

// Column i of row pair `pair`, whose two sums are y. `owns`: this lane has a pair to finish; `block`
// numbers this subgroup's rows among all rows. Called by whole subgroups.
void finish(uint i, uint pair, bool owns, vec2 y, uint block)
{
    bool live = owns && i < n_columns();
    uint token = column_token(i);
    precise vec2 scaled = y * norm_factor(token);
    if (i >= n_columns()) return;
    if (ROLE == VLY_ROLE_QKV) {
        uint row = p.row_base + pair * 2u;
        if (live)
            store_pair(p.out_quad, p.out_stride, token, row / 2u,
                       rotate(scaled, row, p.step.s.token[token].pos));
    } else if (ROLE == VLY_ROLE_ADD) {
        finish_add(token, pair, live, scaled, block);
    } else if (ROLE == VLY_ROLE_SWIGLU) {
        // silu(gate) * up: Shazeer, arXiv 2002.05202
        precise float h = scaled.x / (1.0 + exp(-scaled.x)) * scaled.y;
        if (live)
            RefAct1(uvec2(p.act)).at[(p.out_quad + token * p.out_stride) * 4u + pair] = h;
    } else {
        finish_logits(i, pair, owns, scaled, token, block);
    }
}
