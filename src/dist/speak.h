/* Last words of a rank. Private to src/dist. */
#ifndef DT_DIST_SPEAK_H
#define DT_DIST_SPEAK_H

#include "dist/comm.h"

/* "dtrain: rank N (host): <text><ending>" to standard error, in one write so that the lines of several ranks
 * do not mix; without the rank where the text begins with one. */
void dt_comm_speak(const dt_comm *mpi, const char *text, const char *ending);

#endif
