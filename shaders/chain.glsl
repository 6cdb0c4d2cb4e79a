// Steps of a pass without barriers between their dispatches, in one of two ways; src/model/chain.c finds out whether a
// device can do without, and what it gains. Both rest on devices that begin dispatches in order, so that whoever is
// waited for runs, and both end a wait in vain. Nothing is overwritten too early: each step needs something of every
// workgroup of the step before.
//
// Tags, the faster way where steps are small. What one step writes for a later one goes out in words of 8 bytes, each a
// value and the tag of the step that wrote it, and who needs the value reads until the tag is there: that is the whole
// wait, without fences and counters. (NCCL's low-latency protocol; here it rests on 8 aligned bytes being written at
// once.) A step's tag is the pass's epoch and the step's number in it; 2^32 / steps passes go by before it comes again.
//
// Counts, where a step reads much. A workgroup that is done adds one to its step's count, and those of the next step
// wait until all have. What they read then goes through the caches of processors, which no barrier has emptied: so each
// step leaves it where nobody has read in this pass (src/model/recorder.h), and what must stay in its place, the
// residual stream and the sums of squares, is read past those caches.
layout(buffer_reference, buffer_reference_align = 16) coherent volatile buffer RefTagged4 { uvec4 at[]; };
layout(buffer_reference, buffer_reference_align = 8) coherent volatile buffer RefTagged2 { uvec2 at[]; };

layout(buffer_reference, buffer_reference_align = 4) coherent volatile buffer RefCount { uint at[]; };
layout(buffer_reference, buffer_reference_align = 16) coherent buffer RefFresh { vec4 at[]; };
layout(buffer_reference, buffer_reference_align = 8) coherent buffer RefFresh2 { vec2 at[]; };

// Past the processor's cache: what another step of the chain may have just written where this processor read before.
#define READ_FRESH(quad) RefFresh(uvec2(p.act)).at[quad]

uint chain_epoch; // read early: every tag needs it

void chain_begin()
{
    chain_epoch = RefU1(uvec2(p.act)).at[p.chain.word];
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

bool chain_tagged()
{
    return (p.chain.read | p.chain.written) != 0u;
}

// Counts: waits, with the whole workgroup, until the step before is done.
void chain_await_workgroups()
{
    uint awaited = p.chain.awaited & ~VLY_CHAIN_TELLS, polls = 0u;
    if (awaited == 0u) return;
    if (gl_LocalInvocationIndex == 0u)
        while (RefCount(uvec2(p.act)).at[p.chain.word - 1u] < awaited && chain_look_again(polls)) {}
    // Nothing that is read behind it may be read before it.
    controlBarrier(gl_ScopeWorkgroup, gl_ScopeWorkgroup, gl_StorageSemanticsBuffer | gl_StorageSemanticsShared,
                   gl_SemanticsAcquireRelease);
}

// Counts: the workgroup, all of which comes here, has written what it will.
void chain_tell()
{
    if ((p.chain.awaited & VLY_CHAIN_TELLS) == 0u) return;
    memoryBarrierBuffer();
    barrier();
    if (gl_LocalInvocationIndex == 0u) atomicAdd(RefCount(uvec2(p.act)).at[p.chain.word], 1u);
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
