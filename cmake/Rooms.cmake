# A room is one static library of the sources in its folder. It exports only its own include folder, and only to
# rooms that name it, so an include against the direction of the architecture does not compile.

add_library(dt_flags INTERFACE)
target_compile_definitions(dt_flags INTERFACE _GNU_SOURCE)
set(DT_WARNINGS -Wall -Wextra -Wconversion -Wshadow -Wvla -Wno-format-truncation $<$<BOOL:${DT_WERROR}>:-Werror>)
target_compile_options(
  dt_flags
  INTERFACE $<$<COMPILE_LANGUAGE:C>:${DT_WARNINGS}
            -Wstrict-prototypes
            -Wmissing-prototypes
            -fno-math-errno
            -ffp-contract=off>
            $<$<COMPILE_LANGUAGE:CXX>:${DT_WARNINGS}>
            # Unique symbols would stay global in libdtrain.
            $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)
if(DT_SANITIZE)
  target_compile_options(dt_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${DT_SANITIZE}
                                            -fno-omit-frame-pointer -g>)
  target_link_options(dt_flags INTERFACE -fsanitize=${DT_SANITIZE})
endif()

# dt_room(NAME [DEPENDS room...] [LIBS target...] [SOURCES file...]): SOURCES defaults to *.c and *.cpp of the folder.
function(dt_room name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBS;SOURCES" ${ARGN})
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  endif()
  add_library(dt_${name} STATIC ${ARG_SOURCES})
  target_include_directories(dt_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  list(TRANSFORM ARG_DEPENDS PREPEND dt_)
  target_link_libraries(dt_${name} PUBLIC ${ARG_DEPENDS} m PRIVATE dt_flags ${ARG_LIBS})
endfunction()
