// SPDX-License-Identifier: MIT
//
// blas_threads.h: how many threads OpenBLAS uses, and with it LAPACK. Debian's OpenBLAS runs its own pool,
// which knows nothing of OpenMP: called from an OpenMP loop it would start threads within threads, and
// after a call its workers spin and take the cores from the next OpenMP loop. So it is held at one thread,
// and the engine's parallel loops call it from each of theirs; this holds for LAPACKE too, with nothing to
// do. One large factorisation outside any parallel loop may borrow the pool:
//
//   mbi_blas_threads(mb_threads());
//   info = LAPACKE_sgesdd(...);
//   mbi_blas_threads(1);
#ifndef MBI_BLAS_THREADS_H
#define MBI_BLAS_THREADS_H

// Sets the number of threads of OpenBLAS, process-wide; not to be called within a parallel region.
void mbi_blas_threads(int threads);
#endif
