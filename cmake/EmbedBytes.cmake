# Script mode: writes the bytes of INPUT as C++ source OUTPUT (see ToeBpf.cmake).
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
# ELF images are read in place, hence the alignment.
file(WRITE ${OUTPUT}
"namespace toe::${FOLDER} {
extern const unsigned char ${SYMBOL}[];
extern const unsigned ${SYMBOL}Size;
alignas(8) const unsigned char ${SYMBOL}[] = {${bytes}};
const unsigned ${SYMBOL}Size = ${size};
}  // namespace toe::${FOLDER}
")
