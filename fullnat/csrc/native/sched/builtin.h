// SPDX-License-Identifier: Apache-2.0
/* The built-in schedulers, each defined in the file of its name. */
#ifndef FULLNAT_NATIVE_SCHED_BUILTIN_H
#define FULLNAT_NATIVE_SCHED_BUILTIN_H

#include "../sched.h"

extern const struct fn_scheduler_class fn_scheduler_rr;
extern const struct fn_scheduler_class fn_scheduler_wrr;
extern const struct fn_scheduler_class fn_scheduler_lc;
extern const struct fn_scheduler_class fn_scheduler_wlc;
extern const struct fn_scheduler_class fn_scheduler_lblc;
extern const struct fn_scheduler_class fn_scheduler_lblcr;
extern const struct fn_scheduler_class fn_scheduler_dh;
extern const struct fn_scheduler_class fn_scheduler_sh;
extern const struct fn_scheduler_class fn_scheduler_mh;
extern const struct fn_scheduler_class fn_scheduler_sed;
extern const struct fn_scheduler_class fn_scheduler_nq;
extern const struct fn_scheduler_class fn_scheduler_fo;
extern const struct fn_scheduler_class fn_scheduler_ovf;
extern const struct fn_scheduler_class fn_scheduler_twos;
extern const struct fn_scheduler_class fn_scheduler_random;   /* weighted_random.c */

#endif
