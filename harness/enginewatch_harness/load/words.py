"""The words that prompts are made of: short, common, lower-case ASCII, so nearly always one token each."""

from __future__ import annotations

WORDS: tuple[str, ...] = tuple(
    """
    able about above across act add after again age ago air all almost alone along also always among amount animal
    another answer any appear apple area arm army around art ask away baby back bad bag ball band bank bar base
    bear beat beautiful became because become bed been before began begin behind being believe below best better
    between big bird bit black blood blue board boat body book both bottom box boy branch bread break bridge
    bright bring brother brought brown build building business busy but buy call came camp can car care carry case
    cat catch cause cell center central certain chair chance change chief child choose church circle city class
    clean clear climb close clothes cloud coast coat cold color come common company complete consider contain
    control cook cool copy corn corner correct cost could count country course cover cross crowd cry current cut
    dance dark date daughter day dead deal death decide deep degree desert design did die different difficult
    dinner direct discover distance divide doctor does dog dollar done door double doubt down draw dream dress
    drink drive drop dry during each early earth east easy eat edge effect egg eight either else end energy engine
    enjoy enough enter equal even evening event ever every example expect eye face fact fair fall family famous
    far farm fast father favor fear feed feel feet fell felt few field fight figure fill final find fine finger
    finish fire first fish five flat floor flow flower fly follow food foot force foreign forest form forward
    found four free fresh friend from front fruit full game garden gas gave general get girl give glad glass gold
    gone good got govern grand grass gray great green ground group grow guess guide gun hair half hand happen
    happy hard has hat have head hear heart heat heavy held help her here high hill him his history hold hole home
    hope horse hot hotel hour house how huge human hundred hunt hurry ice idea imagine inch include industry
    inside instead interest iron island job join joy judge jump just keep kept key kill kind king kitchen knew
    know lady lake land language large last late laugh law lay lead learn least leave left leg length less letter
    level life lift light like line list listen little live local long look lost lot loud love low lunch machine
    made mail main make man many map mark market marry master match material matter may mean measure meat meet
    member men metal method middle might mile milk million mind mine minute miss modern moment money month moon
    more morning most mother motion mountain mouth move much music must name nation natural nature near need
    never new news next nice night nine noise none north nose note nothing notice now number object ocean off
    offer office often oil old once one only open order other our out outside over own page paint pair paper
    parent park part party pass past path pattern pay people perhaps period person picture piece place plain plan
    plane planet plant play please point poor port pose position possible post pound power practice present press
    pretty price print prize problem process produce promise proud pull push put quart question quick quiet quite
    race radio rain raise ran reach read ready real reason record red region remember repeat reply report require
    rest result rich ride right ring rise river road rock roll room root rope rose round row rule run safe said
    sail salt same sand saw say scale school science sea season seat second section see seed seem sell send sense
    sent serve set seven several shade shall shape share sharp she sheet shell shine ship shoe shop shore short
    should shout show side sight sign silent silver similar simple since sing sister sit size skill skin sky sleep
    slow small smell smile snow soft soil soldier some son song soon sort sound south space speak special speech
    speed spell spend spoke spot spread spring square stand star start state station stay steam steel step stick
    still stone stood stop store storm story straight strange stream street string strong student study subject
    such sudden sugar summer sun supply sure surface surprise swim system table tail take talk tall teach team
    tell ten term test than thank that the their them then there these they thick thin thing think third this
    those though thought three through throw thus time tiny tire together told tone too took tool top total touch
    toward town track trade train travel tree trip true try turn twenty two type under unit until upon use usual
    valley value very view village visit voice wait walk wall want war warm was wash watch water wave way wear
    weather week weight well went were west what wheel when where which while white who whole whose why wide wife
    wild will wind window winter wire wish with woman wonder wood word work world would write wrong yard year
    yellow yes yet you young your
    """.split()  # noqa: SIM905 (a list of 832 lines would read worse)
)
"""Distinct, in alphabetical order."""
