"""The index of agreeing mappings gives the same numbers as a comparison of each pair."""

import random

from visionbench.results.agreement import Agreement, Distances


def facts(generator):
    """Return up to four names, each with one of two values."""
    return {name: generator.choice("xy") for name in generator.sample("abcd", generator.randint(0, 4))}


def agree(first, second):
    return all(first[name] == second[name] for name in first.keys() & second.keys())


def test_the_numbers_are_those_of_a_comparison_with_each_mapping():
    generator = random.Random(1)
    index, known = Agreement(), {}
    for number in range(300):
        if known and generator.random() < 0.3:
            removed = generator.choice(list(known))
            index.remove(removed, known.pop(removed))
        known[number] = facts(generator)
        index.add(number, known[number])
        searched = facts(generator)
        assert index.agreeing(searched) == [each for each in known if agree(known[each], searched)]


def test_an_empty_index_has_no_numbers():
    assert Agreement().agreeing({"a": "x"}) == []


def test_distances_are_the_numbers_of_different_values():
    generator = random.Random(2)
    known = [facts(generator) for _ in range(40)]
    distances = Distances(known)
    for _ in range(40):
        searched = facts(generator) | {"e": "z"}
        expected = [sum(each[name] != searched[name] for name in each.keys() & searched.keys()) for each in known]
        assert distances.counts(searched).tolist() == expected
