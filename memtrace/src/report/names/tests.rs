use super::{path, shorten};

#[test]
fn names_are_short_and_say_what_is_meant() {
    for (name, short) in [
        ("main", "main"),
        ("forget_session(int)", "forget_session(int)"),
        (
            "void std::vector<int, std::allocator<int> >::_M_realloc_insert<int>(int&&)",
            "std::vector<int>::_M_realloc_insert<int>(int&&)",
        ),
        (
            "Cache::add(std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> > const&)",
            "Cache::add(std::string const&)",
        ),
        (
            "std::map<int, std::vector<Foo, std::allocator<Foo> >, std::less<int>, std::allocator<std::pair<int const, \
          std::vector<Foo> > > >::operator[](int const&)",
            "std::map<int, std::vector<…>>::operator[](int const&)",
        ),
        (
            "std::__1::basic_string<char, std::__1::char_traits<char>, std::__1::allocator<char> >::append(char const*)",
            "std::string::append(char const*)",
        ),
        ("name[abi:cxx11](int)", "name(int)"),
        (
            "std::basic_ostream<char, std::char_traits<char> >& std::operator<< <std::char_traits<char> >\
          (std::basic_ostream<char, std::char_traits<char> >&, char const*)",
            "std::operator<< <std::char_traits<…>>(std::ostream&, char const*)",
        ),
        ("operator new(unsigned long)", "operator new(unsigned long)"),
        ("operator new[](unsigned long)", "operator new[](unsigned long)"),
        ("Text::operator std::__cxx11::basic_string<char>() const", "Text::operator std::string() const"),
        ("bool operator< <int>(A<int> const&, A<int> const&)", "operator< <int>(A<…> const&, A<…> const&)"),
        ("A::operator->() const", "A::operator->() const"),
        ("(anonymous namespace)::grow(int)", "(anonymous namespace)::grow(int)"),
        (
            "serve(int)::{lambda(A<B<C> >)#1}::operator()(A<B<C> >) const",
            "serve(int)::{lambda(A<…>)#1}::operator()(A<…>) const",
        ),
        (
            "<alloc::vec::Vec<T,A> as core::iter::traits::collect::Extend<T>>::extend",
            "<alloc::vec::Vec<T, A> as core::iter::traits::collect::Extend<T>>::extend",
        ),
        ("<alloc::vec::Vec<u8, alloc::alloc::Global>>::push", "<alloc::vec::Vec<u8>>::push"),
        ("app::serve::{closure#0}", "app::serve::{closure#0}"),
        ("<fn(u8) -> A<B> as core::ops::Fn<(u8,)>>::call", "<fn(u8) -> A<B> as core::ops::Fn<(u8,)>>::call"),
        // Not what a demangler writes: as it is.
        ("a<b", "a<b"),
        ("a>b)", "a>b)"),
        ("", ""),
    ] {
        assert_eq!(shorten(name, 200), short, "{name}");
    }
}

#[test]
fn a_long_name_loses_arguments_then_its_middle() {
    let name = "a::b<c::d<e>, ffffffff>::run(gggggggggg, hhhhhhhhhhhh)";
    assert_eq!(shorten(name, 60), "a::b<c::d<…>, ffffffff>::run(gggggggggg, hhhhhhhhhhhh)");
    assert_eq!(shorten(name, 40), "a::b<…>::run(…)");
    assert_eq!(shorten("abcdefghijklmnop", 10), "abcdef…nop");
    assert_eq!(shorten(&format!("{}begin::end", "<".repeat(5000)), 30).chars().count(), 30);
    let deep = format!("f{}{}(int)", "<a".repeat(2000), ">".repeat(2000));
    assert!(shorten(&deep, 60).chars().count() <= 60);
    for most in 0..60 {
        assert!(shorten(name, most).chars().count() <= most.max(1), "{most}");
    }
}

#[test]
fn paths_are_where_functions_are_defined() {
    for (name, plain) in [
        ("main", "main"),
        (
            "void std::vector<int, std::allocator<int> >::_M_realloc_insert<int>(int&&)",
            "std::vector::_M_realloc_insert",
        ),
        (
            "std::__cxx11::basic_string<char, std::char_traits<char> >::append(char const*) const",
            "std::basic_string::append",
        ),
        ("operator new(unsigned long)", "operator new"),
        ("Text::operator std::string() const", "Text::operator"),
        ("serve(int)::{lambda()#1}::operator()() const", "serve::{lambda()#1}::operator()"),
        ("<alloc::vec::Vec<T> as core::iter::Extend<T>>::extend", "alloc::vec::Vec::extend"),
        ("<app::Cache as core::fmt::Debug>::fmt", "app::Cache::fmt"),
        ("(anonymous namespace)::grow(int)", "(anonymous namespace)::grow"),
        ("a<b", "a<b"),
    ] {
        assert_eq!(path(name), plain, "{name}");
    }
}
