/* The system's clocks, as Python's module time reads them on Linux. */

#include <time.h>

/* Return the same number as time.monotonic() or time.time(). */
static inline double
seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)((long long)now.tv_sec * 1000000000 + now.tv_nsec) / 1e9;
}
