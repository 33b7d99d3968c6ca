# libdtrain: every room but app as one shared and one static library that show what include/dtrain.h declares and
# nothing else, and what a program needs to find them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(DT_HEADER ${CMAKE_SOURCE_DIR}/include/dtrain.h)
set(DT_LIBRARY_ROOMS core cpu gpu data dist formats tensorflow model onnx quant train serve api)
set(DT_LIBRARY_DIR ${CMAKE_BINARY_DIR}/library)

# The public functions: the names behind DT_API, and those of the list of activations.
set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${DT_HEADER})
file(READ ${DT_HEADER} header)
string(REGEX MATCHALL "\nDT_API [^(]*[ *]dt_[a-z0-9_]+\\(" declarations "${header}")
list(TRANSFORM declarations REPLACE ".*[ *](dt_[a-z0-9_]+)\\($" "\\1")
string(REPLACE ";" ";\n    " globals "${declarations}")
string(REPLACE ";" "\n" names "${declarations}")
file(CONFIGURE OUTPUT ${DT_LIBRARY_DIR}/dtrain.map CONTENT "DTRAIN_0 {\n  global:\n    ${globals};\n  local: *;\n};\n" @ONLY)
file(CONFIGURE OUTPUT ${DT_LIBRARY_DIR}/dtrain.names CONTENT "${names}\n" @ONLY)

set(objects)
foreach(room ${DT_LIBRARY_ROOMS})
  list(APPEND objects $<TARGET_OBJECTS:dt_${room}>)
endforeach()

add_library(dtrain_shared SHARED $<TARGET_OBJECTS:dt_api>)
target_link_libraries(dtrain_shared PRIVATE dt_api dt_flags)
# Public functions that a room below defines and nothing here calls.
list(TRANSFORM declarations PREPEND -Wl,--require-defined= OUTPUT_VARIABLE required)
target_link_options(dtrain_shared PRIVATE ${required} -Wl,--version-script=${DT_LIBRARY_DIR}/dtrain.map)
if(NOT DT_SANITIZE) # whose runtime comes with the program
  target_link_options(dtrain_shared PRIVATE -Wl,-z,defs)
endif()
set_target_properties(dtrain_shared PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
                                    LINK_DEPENDS ${DT_LIBRARY_DIR}/dtrain.map)

# The static one is a single object, in which everything that is not public has become local. Groups of C++ go
# first: their names would be local, and yet be taken for those of other objects.
add_custom_command(
  OUTPUT ${DT_LIBRARY_DIR}/dtrain.o
  COMMAND ${CMAKE_LINKER} -r --force-group-allocation -o ${DT_LIBRARY_DIR}/dtrain.o ${objects}
  COMMAND ${CMAKE_OBJCOPY} --keep-global-symbols=${DT_LIBRARY_DIR}/dtrain.names ${DT_LIBRARY_DIR}/dtrain.o
  DEPENDS ${objects} ${DT_LIBRARY_DIR}/dtrain.names
  COMMAND_EXPAND_LISTS VERBATIM)
add_library(dtrain_static STATIC ${DT_LIBRARY_DIR}/dtrain.o)
set_target_properties(dtrain_static PROPERTIES LINKER_LANGUAGE C)
set_source_files_properties(${DT_LIBRARY_DIR}/dtrain.o PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)

foreach(kind shared static)
  set_target_properties(dtrain_${kind} PROPERTIES OUTPUT_NAME dtrain EXPORT_NAME dtrain_${kind})
  target_include_directories(dtrain_${kind} INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
                                                      $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
add_library(dtrain::dtrain ALIAS dtrain_shared)

# What a program needs besides to link the static one.
set(DT_STATIC_NEEDS)
foreach(module hdf5 jansson xxhash zstd protobufc)
  get_target_property(libraries PkgConfig::${module} INTERFACE_LINK_LIBRARIES)
  list(APPEND DT_STATIC_NEEDS ${libraries})
endforeach()
list(APPEND DT_STATIC_NEEDS ${JPEG_LIBRARIES} ${PNG_LIBRARIES} ${ZLIB_LIBRARIES} ${MPI_C_LIBRARIES}
     ${OpenMP_C_LIBRARIES})
if(DT_HAVE_CUDA)
  list(APPEND DT_STATIC_NEEDS ${DT_CUDNN_LIB} ${DT_CUBLASLT_LIB} ${DT_NCCL_LIB} ${DT_NVJPEG_LIB}
       ${CUDAToolkit_LIBRARY_DIR}/libcudart_static.a -lrt -ldl)
endif()
list(FILTER DT_STATIC_NEEDS EXCLUDE REGEX "NOTFOUND$|^$")
list(APPEND DT_STATIC_NEEDS -lstdc++ -lpthread -lm)
list(REMOVE_DUPLICATES DT_STATIC_NEEDS)
string(REPLACE ";" " " DT_STATIC_NEEDS_TEXT "${DT_STATIC_NEEDS}")

configure_file(${CMAKE_SOURCE_DIR}/cmake/dtrain.pc.in ${DT_LIBRARY_DIR}/dtrain.pc @ONLY)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/dtrainConfig.cmake.in ${DT_LIBRARY_DIR}/dtrainConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/dtrain
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${DT_LIBRARY_DIR}/dtrainConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS dtrain_shared dtrain_static)
install(FILES ${DT_HEADER} TYPE INCLUDE)
install(FILES ${DT_LIBRARY_DIR}/dtrain.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${DT_LIBRARY_DIR}/dtrainConfig.cmake ${DT_LIBRARY_DIR}/dtrainConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/dtrain)
