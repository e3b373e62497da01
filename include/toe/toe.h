/// \file
/// What a program may ask libtoe.so directly. Programs need none of it to be offloaded.
#ifndef TOE_TOE_H_
#define TOE_TOE_H_

#define TOE_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/// Version of the libtoe that is loaded, as "major.minor.patch". Look it up with dlsym to learn
/// whether libtoe is loaded at all.
const char* toe_version(void);

#ifdef __cplusplus
}
#endif

#endif /* TOE_TOE_H_ */
