/* Functions compiled for several instruction sets. */
#ifndef DT_CORE_SIMD_H
#define DT_CORE_SIMD_H

/* Compiles a function for AVX-512, AVX2 and the base instruction set, chosen when the program is loaded. Not
 * under sanitizers: their run-time is not up yet when the loader makes the choice. DT_CPU_ARCH, a string: for
 * that one alone; the tests so reach the code that the loader would not choose here. */
#if defined(DT_CPU_ARCH)
#define DT_CPU_SIMD __attribute__((target("arch=" DT_CPU_ARCH)))
#elif defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define DT_CPU_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DT_CPU_SIMD
#endif

#endif
