// Steps of a pass without barriers between their dispatches: each workgroup fetches what does not depend on the
// step before, its weights above all, then waits until that step's workgroups (or those of their subgroups that write)
// have all said that they are done. Devices that begin dispatches in order make progress so; src/model/chain.c finds out whether one
// does, and whether it gains. The memory barriers empty a processor's own cache, which nothing
// does between the dispatches.
layout(buffer_reference, buffer_reference_align = 4) coherent volatile buffer RefChain { uint at[]; };

// Called by all invocations, and ends in a barrier.
void chain_wait()
{
    if (p.chain.wait_count == 0u) return;
    if (gl_LocalInvocationIndex == 0u) {
        RefChain words = RefChain(uvec2(p.act));
        uint polls = 0u;
        while (words.at[p.chain.wait_word] < p.chain.wait_count) {
            if (++polls % 1024u != 0u) continue;
            // A wait in vain must end, and so must all that follow; the host is told.
            if (p.step.s.stalled != 0u) break;
            if (polls >= VLY_CHAIN_POLLS) p.step.s.stalled = 1u;
        }
        memoryBarrierBuffer();
    }
    barrier();
    memoryBarrierBuffer();
}

// Called by all invocations of a workgroup that is done.
void chain_signal()
{
    if (p.chain.own_word == 0u) return;
    memoryBarrierBuffer();
    barrier();
    if (gl_LocalInvocationIndex == 0u) atomicAdd(RefChain(uvec2(p.act)).at[p.chain.own_word], 1u);
}

// The same of a subgroup that is done, where only some of a workgroup's write.
void chain_signal_subgroup()
{
    if (p.chain.own_word == 0u) return;
    memoryBarrierBuffer();
    subgroupBarrier();
    if (subgroupElect()) atomicAdd(RefChain(uvec2(p.act)).at[p.chain.own_word], 1u);
}
