/* clock.h: seconds of a clock that never goes back. */
#ifndef FBP_CLOCK_H
#define FBP_CLOCK_H
double fbp_seconds(void);
#endif
