# How folders become targets. A new file is picked up by its place; no list has to be edited.

# All .cpp files below FOLDER, at any depth.
function(whence_glob_sources out folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cpp")
  list(SORT sources)
  set(${out} "${sources}" PARENT_SCOPE)
endfunction()

# One program per X.cpp in FOLDER and per subfolder X that holds .cpp files. Names come back in OUT.
function(whence_add_programs out folder)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "PREFIX" "LIBRARIES")
  set(names)
  file(GLOB entries CONFIGURE_DEPENDS RELATIVE "${folder}" "${folder}/*.cpp" "${folder}/*/*.cpp")
  list(SORT entries)
  foreach(entry IN LISTS entries)
    if(entry MATCHES "^([^/]+)/")
      set(name "${CMAKE_MATCH_1}")
    else()
      string(REGEX REPLACE "\\.cpp$" "" name "${entry}")
    endif()
    list(APPEND names "${name}")
    list(APPEND sources_${name} "${folder}/${entry}")
  endforeach()
  list(REMOVE_DUPLICATES names)
  foreach(name IN LISTS names)
    add_executable(${arg_PREFIX}${name} ${sources_${name}})
    set_target_properties(${arg_PREFIX}${name} PROPERTIES OUTPUT_NAME "${name}")
    target_link_libraries(${arg_PREFIX}${name} PRIVATE whence whence_flags ${arg_LIBRARIES})
    target_include_directories(${arg_PREFIX}${name} PRIVATE "${PROJECT_SOURCE_DIR}")  # their own headers
  endforeach()
  set(${out} "${names}" PARENT_SCOPE)
endfunction()
