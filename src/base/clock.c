#include "base/clock.h"

#include <stdio.h>

vly_utc vly_clock_utc(void)
{
    struct timespec now;
    struct tm utc;
    vly_utc out;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out.text, sizeof out.text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out.text + n, sizeof out.text - n, ".%03ldZ", now.tv_nsec / 1000000);
    return out;
}
