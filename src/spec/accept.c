#include "spec/accept.h"

uint32_t vly_accept(const uint32_t *drafted, const uint32_t *pick, uint32_t n)
{
    uint32_t accepted = 0;
    while (accepted < n && drafted[accepted] == pick[accepted]) accepted++;
    return accepted;
}
