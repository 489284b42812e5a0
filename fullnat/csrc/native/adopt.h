// SPDX-License-Identifier: Apache-2.0
/*
 * Adoption: a new director takes over the flows of one that is gone.
 *
 * The kernel went on forwarding them, in memory that outlives the process (fastpath.h).  What else a
 * flow is part of is made anew from its keys: which service and server, whose local port, which
 * persistence template.  A flow that the services no longer have room for is ended.
 */
#ifndef FULLNAT_NATIVE_ADOPT_H
#define FULLNAT_NATIVE_ADOPT_H

#include "director.h"

/*
 * Take over the flows in the memory of *director*, whose services and servers are there and which
 * has decided nothing yet.  Set *ended* to how many were left behind; return how many it has now.
 */
uint32_t fn_director_adopt(struct fn_director *director, int64_t now, uint32_t *ended);

#endif
