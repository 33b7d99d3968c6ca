# DT_COMMIT: the commit of the source tree by `git describe`, empty outside a repository (a tarball inside another one's
# tree is none of it). A new commit configures anew.
set(DT_COMMIT "")
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(
    COMMAND ${GIT_EXECUTABLE} rev-parse --show-toplevel
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    OUTPUT_VARIABLE DT_GIT_ROOT
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(REAL_PATH ${CMAKE_SOURCE_DIR} DT_REAL_SOURCE)
  if(DT_GIT_ROOT STREQUAL DT_REAL_SOURCE)
    execute_process(
      COMMAND ${GIT_EXECUTABLE} describe --always --dirty --abbrev=10
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      OUTPUT_VARIABLE DT_COMMIT
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    execute_process(
      COMMAND ${GIT_EXECUTABLE} rev-parse --git-path logs/HEAD
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      OUTPUT_VARIABLE DT_GIT_LOG
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    get_filename_component(DT_GIT_LOG "${DT_GIT_LOG}" ABSOLUTE BASE_DIR ${CMAKE_SOURCE_DIR})
    if(EXISTS ${DT_GIT_LOG})
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${DT_GIT_LOG})
    endif()
  endif()
endif()
