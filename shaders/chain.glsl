// Steps of a pass without barriers between their dispatches. What one step writes for a later one goes out in words
// of 8 bytes, each a value and the tag of the step that wrote it, and who needs the value reads until the tag is
// there: that is the whole wait, without fences and counters. (NCCL's low-latency protocol; here it rests on 8
// aligned bytes being written at once, and on devices that begin dispatches in order, so that whoever is waited for
// runs. src/model/chain.c finds out whether a device does, and whether it gains.) A step's tag is the pass's epoch
// and the step's number in it; 2^32 / steps passes go by before it comes again. Nothing is overwritten too early:
// each step needs something of every workgroup of the step before.
layout(buffer_reference, buffer_reference_align = 16) coherent volatile buffer RefTagged4 { uvec4 at[]; };
layout(buffer_reference, buffer_reference_align = 8) coherent volatile buffer RefTagged2 { uvec2 at[]; };

uint chain_epoch; // read early: every tag needs it

void chain_begin()
{
    chain_epoch = RefU1(uvec2(p.act)).at[p.chain.epoch_word];
}

// May one more look be taken? A wait in vain must end, and so must all that follow; the host is told.
bool chain_look_again(inout uint polls)
{
    if (++polls % 1024u != 0u) return true;
    if (p.step.s.stalled != 0u) return false;
    if (polls < VLY_CHAIN_POLLS) return true;
    p.step.s.stalled = 1u;
    return false;
}

bool chain_has(uvec4 two, uint tag)
{
    return two.y == tag && two.w == tag;
}

// Two values at 16 bytes of `act`, when step `number` has written them.
uvec2 chain_await(uint quad, uint number)
{
    uint polls = 0u, tag = chain_epoch + number;
    uvec4 two;
    do
        two = RefTagged4(uvec2(p.act)).at[quad];
    while (!chain_has(two, tag) && chain_look_again(polls));
    return two.xz;
}

// Four of them, at 32 bytes.
vec4 chain_await_quad(uint quad, uint number)
{
    uint polls = 0u, tag = chain_epoch + number;
    uvec4 a, b;
    do {
        a = RefTagged4(uvec2(p.act)).at[quad];
        b = RefTagged4(uvec2(p.act)).at[quad + 1u];
    } while (!(chain_has(a, tag) && chain_has(b, tag)) && chain_look_again(polls));
    return uintBitsToFloat(uvec4(a.xz, b.xz));
}

// Value `i` of those that begin at a quad.
void chain_store(uint quad, uint i, uint value)
{
    RefTagged2(uvec2(p.act)).at[quad * 2u + i] = uvec2(value, chain_epoch + p.chain.written);
}

// Quad `i` of a token's x that begins at a quad, as matrix units read it.
void chain_store_x_quad(uint quad, uint i, vec4 v)
{
    chain_store(quad, half_word(2u * i), half_pair(v.xy));
    chain_store(quad, half_word(2u * i + 1u), half_pair(v.zw));
}

void chain_store_pair_as(uint quad, vec2 v, uint tag)
{
    RefTagged4(uvec2(p.act)).at[quad] = uvec4(floatBitsToUint(v.x), tag, floatBitsToUint(v.y), tag);
}

void chain_store_pair(uint quad, vec2 v)
{
    chain_store_pair_as(quad, v, chain_epoch + p.chain.written);
}
