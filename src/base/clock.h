#ifndef VLY_BASE_CLOCK_H
#define VLY_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic time in nanoseconds, from an arbitrary start. */
static inline uint64_t vly_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

typedef struct {
    char text[48];
} vly_utc;

/* The time of day as logs have it: "2026-01-31T23:59:59.999Z". */
vly_utc vly_clock_utc(void);

#endif
